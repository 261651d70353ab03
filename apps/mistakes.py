"""The classic mistakes. In: a connection, as ASGI has it. Out: the raw adapter's answers, performed the wrong way.

`blocking` calls what blocks inside `async def`: its event loop serves nobody else meanwhile. `to_thread` moves each
such call to a thread: as many at a time as there are threads, which nobody has chosen, and two switches for each.
Both leave WebSockets to the raw adapter: an echo has nothing that blocks.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from apps import trace
from apps.asgi import Message, Receiver, Sender, called, converse, lifespan, received, reply, stream
from apps.effects import BLOCKING, Answer, Blocking, Body, Left, Program, pull, push
from apps.variants import VARIANTS

# As many threads as its row says; not asyncio's own pool, as newer Pythons count a process's CPUs, not a machine's.
THREADS = VARIANTS["asgi-to-thread"].budget.threads
_POOL = ThreadPoolExecutor(THREADS)

App = Callable[[Message, Receiver, Sender], Awaitable[None]]


def application(
    perform: Callable[[Program, Blocking], Awaitable[Answer]],
    items_of: Callable[[Program], AsyncGenerator[bytes, None]],
) -> App:
    """An ASGI application that performs replies and streams in this way."""

    async def app(scope: Message, receive: Receiver, send: Sender) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
            return
        answer = called(scope)
        if answer.kind == "socket":
            await converse(answer.program, receive, send)
        elif answer.kind == "stream":
            await stream(answer, items_of(answer.program), receive, send)
        else:
            with suppress(Left):
                body = await received(receive) if scope.get("method") == "POST" else b""
                table = {**BLOCKING, Body: lambda _effect, _began: body}
                await reply(scope, answer, await perform(answer.program, table), send)

    return app


async def _blocked(program: Program, table: Blocking) -> Answer:
    return push(program, table)


async def _blocked_items(program: Program) -> AsyncGenerator[bytes, None]:
    for item in pull(program):
        yield item


async def _moved(program: Program, table: Blocking) -> Answer:
    return await asyncio.get_running_loop().run_in_executor(_POOL, push, program, table)


async def _moved_items(program: Program) -> AsyncGenerator[bytes, None]:
    items = pull(program)
    while True:
        step = asyncio.get_running_loop().run_in_executor(_POOL, next, items, None)
        try:
            item = await asyncio.shield(step)
            if item is None:
                return
            yield item
        except BaseException:  # the reader is gone; but a thread cannot be cancelled: what it does ends first
            step.add_done_callback(lambda _: items.close())
            raise


blocking = trace.asgi(application(_blocked, _blocked_items))
to_thread = trace.asgi(application(_moved, _moved_items))
