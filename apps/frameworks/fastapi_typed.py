"""The endpoints in FastAPI, with a typed `/json`. In: a request, validated. Out: a document, validated, too.

This is what FastAPI is chosen for: a parameter that is parsed by its type, and a pydantic model that each answer is
checked against and written by. All other endpoints are those of the plain mount.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel

from apps import trace
from apps.asgi import called
from apps.effects import push_async
from apps.endpoints import ENDPOINTS, ROUTES
from apps.frameworks.fastapi import mounted
from apps.frameworks.starlette import refuse, reply

JSON = ENDPOINTS["json"]
ITEMS = JSON.parameters["items"]


class Item(BaseModel):
    """One of the document's items."""

    id: int
    name: str
    price: float
    available: bool
    note: str | None
    tags: list[str]


class Document(BaseModel):
    """What `/json` answers."""

    count: int
    items: list[Item]


async def document(
    request: Request,
    items: Annotated[int, Query(ge=ITEMS.low, le=ITEMS.high)] = 10,  # noqa: ARG001
) -> Any:
    """FastAPI has parsed the parameter, which is the point; but it takes `+5`, so the endpoint decides, as always."""
    found = called(request.scope)
    said = await push_async(found.program)
    return said if found.kind == "document" else reply(found, said)


app = mounted(endpoint for endpoint in ROUTES.values() if endpoint is not JSON)
app.add_api_route(JSON.path, document, methods=[JSON.method], response_model=Document)
app.add_exception_handler(RequestValidationError, refuse)
app = trace.asgi(app)
