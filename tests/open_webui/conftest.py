"""The index and the chat model of the service's tests."""

from tests.serve.conftest import chat, index, with_chat

__all__ = ["chat", "index", "with_chat"]
