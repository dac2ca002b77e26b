"""The model that writes the answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect.blocks.core import Block
from pydantic import Field, SecretStr

from blocks.schema_once import SchemaOnce

if TYPE_CHECKING:
    from openai import OpenAI


class ChatModel(SchemaOnce, Block):
    """An OpenAI-compatible server, such as vLLM, and the model to ask there."""

    _block_type_name = "Chat Model"
    _block_type_slug = "chat-model"
    _description = "An OpenAI-compatible chat server (vLLM) that writes cited answers."

    base_url: str = Field(min_length=1, description="Address including /v1, such as http://vllm:8000/v1.")
    api_key: SecretStr | None = Field(default=None, description="Key sent as a bearer token; empty for none.")
    model: str | None = Field(
        default=None, description="Name of the served model; empty takes the first that the server lists."
    )
    timeout_seconds: float = Field(default=120.0, gt=0, description="Seconds to wait for an answer.")
    max_retries: int = Field(
        default=2, ge=0, le=10, description="Retries on connection errors, 429 and 5xx, with back-off."
    )

    def get_client(self) -> OpenAI:
        """Return a client. It connects on first use."""
        from openai import DefaultHttpxClient, OpenAI

        from blocks.deadline import in_time

        return OpenAI(
            base_url=self.base_url,
            api_key=self.api_key.get_secret_value() if self.api_key else "none",
            timeout=self.timeout_seconds,
            max_retries=self.max_retries,
            http_client=DefaultHttpxClient(event_hooks=in_time()),
        )
