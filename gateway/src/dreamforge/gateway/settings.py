"""The settings of the gateway, beside those that every service has: `FORGE_GATEWAY_*` and `FORGE_LIMIT_*`."""

from pydantic import Field

from dreamforge.contracts.request.limits import Limits
from dreamforge.runtime.service.settings import CommonSettings


class GatewaySettings(CommonSettings):
    """Address, time limits and bounds of the gateway."""

    gateway_host: str = "127.0.0.1"
    gateway_port: int = Field(default=8080, ge=0, le=65535, description="0 takes a free port")
    gateway_consistency_seconds: float = Field(default=5.0, gt=0, description="longest wait for Forge-Min-Sequence")
    gateway_heartbeat_seconds: float = Field(default=15.0, gt=0, description="between SSE comments")
    gateway_streams: int = Field(default=4096, ge=1, description="event streams that may be open at once")
    gateway_stream_buffer_bytes: int = Field(
        default=256 * 1024, ge=1024, description="what one SSE client may be behind before it is dropped"
    )
    gateway_database_pool: int = Field(default=8, ge=1, description="connections to Postgres")
    gateway_database_timeout_seconds: float = Field(default=3.0, gt=0, description="per statement and per wait")
    gateway_drain_seconds: float = Field(default=10.0, gt=0, description="what open requests get after SIGTERM")
    limit: Limits = Field(default=Limits(), description="bounds of a request, each one FORGE_LIMIT_*")
