"""Where runners of other machines reach this installation: `FORGE_REMOTE_*`. Off unless a host is given."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class RemoteSettings(BaseModel):
    """The gateway's listener for runners of other machines. `dreamforge up --listen` sets all that is not given."""

    model_config = ConfigDict(frozen=True)

    host: str = Field(
        default="",
        description="address for runners of other machines, who come by TLS (0.0.0.0: all); empty: off",
    )
    port: int = Field(default=8443, ge=1, le=65535, description="of the gateway for them: pictures, inputs and models")
    nats_port: int = Field(default=4222, ge=1, le=65535, description="on which they reach NATS")
    names: str = Field(
        default="",
        description="host names and addresses by which they reach this machine, comma-separated; empty: its addresses",
    )
    certificates_dir: Path | None = Field(default=None, description="folder with authority.pem, server.pem, server.key")
    credentials_dir: Path | None = Field(default=None, description="folder with runner-ID.public of each such runner")
    models_dir: Path | None = Field(default=None, description="folder of models that they may fetch; empty: none")
