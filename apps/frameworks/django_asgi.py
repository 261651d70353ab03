"""The endpoints in Django, under ASGI. In: a request, as Django has it. Out: the answer of an async view.

Django starts two threads for each request nevertheless: the receivers of its signals and what closes a response are
synchronous. That is its own price, and part of what is measured.
"""

from __future__ import annotations

import os
from typing import Any

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.urls import path, re_path

from apps import trace
from apps.effects import AWAITING, Body, pull_async, push_async
from apps.endpoints import ROUTES, call

os.environ["DJANGO_SETTINGS_MODULE"] = "apps.frameworks.django_settings"
settings.ROOT_URLCONF = __name__


async def answer(request: HttpRequest) -> HttpResponseBase:
    """The view of every route, and of all other paths: Django's own answer to them would be HTML."""

    async def body(_effect: Body, _began: float) -> Any:
        return request.body  # which Django has received before it called

    meta = request.META
    found = call(request.method, request.path, meta["QUERY_STRING"], meta.get("CONTENT_LENGTH"))
    head = {"status": found.status, "content_type": found.content_type}
    if found.kind == "stream":  # an asynchronous iterator: Django would read another to its end before it sends
        return StreamingHttpResponse(pull_async(found.program), **head)
    said = await push_async(found.program, {**AWAITING, Body: body})
    response = JsonResponse(said, safe=False) if found.kind == "document" else HttpResponse(said, **head)
    response["Content-Length"] = str(len(response.content))  # left to a middleware, which is not here
    return response


urlpatterns = [path(endpoint.path[1:], answer) for endpoint in ROUTES.values() if endpoint.kind != "socket"]
urlpatterns.append(re_path("", answer))
app = trace.asgi(get_asgi_application())
