"""What the gateway tells runners of other machines."""

from pydantic import BaseModel, ConfigDict, Field

from dreamforge.contracts.models.descriptor import ModelDescriptor, Sha256

ACCESS, MODELS, AUTHORITY = "/v1/runner", "/v1/models", "/authority.pem"
OBJECTS, CHECK = "/v1/objects/", "/v1/check"


class RemoteAccess(BaseModel):
    """What a runner needs to connect to NATS, once it has proved who it is."""

    model_config = ConfigDict(frozen=True)

    runner_id: str
    nats_port: int
    nats_prefix: str = ""
    allow_unsynced: bool = Field(default=False, description="whether the installation accepts a NATS without fsync")


class RemoteFile(BaseModel):
    """One file of a model."""

    model_config = ConfigDict(frozen=True)

    path: str
    size_bytes: int = Field(ge=0)
    sha256: Sha256 | None = Field(default=None, description="where the descriptor pins it; the whole has a digest")


class RemoteModel(BaseModel):
    """A model that a runner may fetch."""

    model_config = ConfigDict(frozen=True)

    descriptor: ModelDescriptor
    files: tuple[RemoteFile, ...]

    @property
    def size_bytes(self) -> int:
        """Of all its files."""
        return sum(file.size_bytes for file in self.files)


class RemoteModels(BaseModel):
    """All of them."""

    model_config = ConfigDict(frozen=True)

    models: tuple[RemoteModel, ...]
