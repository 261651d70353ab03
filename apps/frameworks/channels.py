"""The endpoints in Django Channels. In: a connection. Out: Django's answer, or a consumer's conversation.

Channels hands each message to a consumer, where a program asks for the next one: a queue is between them.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from channels.exceptions import StopConsumer
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import path, re_path

from apps import asgi
from apps.effects import AWAITING, Emit, Program, Receive, push_async
from apps.endpoints import ROUTES
from apps.frameworks import django_asgi


class Conversation(AsyncWebsocketConsumer):  # type: ignore[misc]  # Channels ships no types
    """One client's, from its handshake until it leaves."""

    async def connect(self) -> None:
        found = asgi.called(self.scope)
        if found.kind != "socket":
            await asgi.reply(self.scope, found, await push_async(found.program), self.base_send)
            raise StopConsumer
        await self.accept()
        self.received: asyncio.Queue[str | bytes] = asyncio.Queue()
        self.talk = asyncio.create_task(self.converse(found.program))

    async def converse(self, program: Program) -> None:
        talking = {**AWAITING, Emit: self.emit, Receive: lambda _effect, _began: self.received.get()}
        with suppress(OSError):  # the client has left in the middle of a message to it
            await push_async(program, talking)
            await self.close()

    async def emit(self, effect: Emit, _began: float) -> None:
        if isinstance(effect.data, str):
            await self.send(text_data=effect.data)
        else:
            await self.send(bytes_data=effect.data)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        self.received.put_nowait(bytes_data if text_data is None else text_data)  # type: ignore[arg-type]  # not both

    async def disconnect(self, _code: int) -> None:
        self.talk.cancel()


consumer = Conversation.as_asgi()
sockets = [path(endpoint.path[1:], consumer) for endpoint in ROUTES.values() if endpoint.kind == "socket"]
app = ProtocolTypeRouter({"http": django_asgi.app, "websocket": URLRouter([*sockets, re_path("", consumer)])})
