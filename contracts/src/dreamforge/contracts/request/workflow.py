"""The workflow of another program that a request was translated from, as its client knows it. Pure."""

from typing import Any

from pydantic import Field

from dreamforge.contracts.models.descriptor import Value, is_none


class Workflow(Value):
    """A graph of ComfyUI in API format, and the ids by which its client asks for it."""

    graph: dict[str, Any] = Field(description="nodes by their ids")  # Any: JSON, checked when it was translated
    outputs: tuple[str, ...] = Field(description="ids of the nodes that show the images")
    client_id: str | None = Field(default=None, exclude_if=is_none, description="whose websocket hears of the job")
    prompt_id: str | None = Field(
        default=None, exclude_if=is_none, description="the id that the client has given; absent: that of the job"
    )
