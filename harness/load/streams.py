"""Which calls are conversations. In: a part of a mix. Out: the function that holds one, from start to end."""

from __future__ import annotations

from functools import partial

from harness.load.call import Call
from harness.load.conversation import FAILURES, Broken, Conversation, Due
from harness.load.slow import slow
from harness.load.sse import sse
from harness.load.ws import ws
from harness.trial import Part

__all__ = ["FAILURES", "Broken", "Due", "conversation"]

CONVERSATIONS: dict[str, Conversation] = {"sse": sse, "ws": ws}


def conversation(part: Part, call: Call) -> Conversation | None:
    """None for a request and its reply. call: the part's request, prepared."""
    return partial(slow, call) if part.slow_s else CONVERSATIONS.get(part.endpoint)
