"""Which endpoints are conversations. In: an endpoint's name. Out: the function that holds one, from start to end."""

from __future__ import annotations

from harness.load.conversation import FAILURES, Broken, Conversation, Due
from harness.load.sse import sse
from harness.load.ws import ws

__all__ = ["CONVERSATIONS", "FAILURES", "Broken", "Conversation", "Due"]

CONVERSATIONS: dict[str, Conversation] = {"sse": sse, "ws": ws}
