"""The reply to an import, as values: the OpenAPI document is made of these."""

from typing import Any, Literal

from pydantic import Field

from dreamforge.contracts.models.descriptor import Value
from dreamforge.contracts.pictures.foreign.imported import Tool


class ImportedAsset(Value):
    """A model or LoRA that a picture names, and the registered one that it is."""

    name: str
    hash: str = Field(description="as the picture has it, by whatever rule its program hashes")
    model_id: str | None = Field(description="null: it is not registered here")
    matched_by: Literal["hash", "name"] | None
    weight: float | None = Field(default=None, description="of a LoRA")
    note: str = Field(default="", description="why it was not found, or what is not sure")


class UnmappedValue(Value):
    """A value of a picture that is not in the request."""

    name: str
    value: str = Field(description="at most 300 characters of it")
    reason: str


class ImportReply(Value):
    """The request that a picture says."""

    tool: Tool = Field(description="the program that wrote the picture")
    request: dict[str, Any] = Field(description="a body for POST /v1/jobs; without model_id, the default model's")
    model: ImportedAsset | None
    loras: tuple[ImportedAsset, ...]
    unmapped: tuple[UnmappedValue, ...] = Field(description="everything else that the picture says")
