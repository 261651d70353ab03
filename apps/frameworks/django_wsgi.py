"""The endpoints in Django, under WSGI. In: a request, as Django has it. Out: the answer as a Django response."""

from __future__ import annotations

import os

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.urls import path

from apps import trace
from apps.effects import BLOCKING, Body, pull, push
from apps.endpoints import ROUTES, call, refusal

os.environ["DJANGO_SETTINGS_MODULE"] = "apps.frameworks.django_settings"
settings.ROOT_URLCONF = __name__


def answer(request: HttpRequest, **_: Exception) -> HttpResponseBase:
    """The view of every route, and of what the router refuses, too: its errors would be HTML."""
    environ = request.META
    upgrade = environ.get("HTTP_UPGRADE", "").lower() == "websocket"
    method, length = "WS" if upgrade else request.method, environ.get("CONTENT_LENGTH")
    found = call(method, environ["PATH_INFO"], environ.get("QUERY_STRING", ""), length)
    if found.kind == "socket":
        found = refusal(501, "upgrade", "websocket", "none: Django has no WebSocket")
    head = {"status": found.status, "content_type": found.content_type}
    if found.kind == "stream":
        return StreamingHttpResponse(pull(found.program), **head)
    if found.kind == "document":
        response = JsonResponse(push(found.program), safe=False)
    else:
        table = {**BLOCKING, Body: lambda _effect, _began: request.body} if method == "POST" else BLOCKING
        response = HttpResponse(push(found.program, table), **head)
    response["Content-Length"] = str(len(response.content))  # left to a middleware, which is not here
    return response


urlpatterns = [path(endpoint.path[1:], answer) for endpoint in ROUTES.values() if endpoint.kind != "socket"]
handler404 = answer
app = trace.wsgi(get_wsgi_application())
