"""The settings of webhooks: `FORGE_GATEWAY_WEBHOOK_*`."""

from pydantic import Field, SecretStr, field_validator

from dreamforge.contracts.deliveries import RetryPolicy
from dreamforge.runtime.network import networks_of
from dreamforge.runtime.service.settings import CommonSettings

KEY_CHARS_MIN = 32
DAY_SECONDS = 86_400.0


class WebhookSettings(CommonSettings):
    """Whether there are webhooks, where they may go, and how often a delivery is tried."""

    gateway_webhook_key: SecretStr = Field(
        default=SecretStr(""),
        description="at least 32 characters that all gateways share: it seals the signing secrets of webhooks in the "
        "log. There are no webhooks without it; after a change every webhook needs `dreamforge webhooks rotate`",
    )
    gateway_webhook_networks: str = Field(
        default="",
        description="internal networks or addresses (10.1.0.0/16, 127.0.0.1), comma-separated, that webhooks may be "
        "sent to, beside public addresses",
    )
    gateway_webhook_http: bool = Field(default=False, description="allow webhooks to http:// addresses, without TLS")
    gateway_webhook_timeout_seconds: float = Field(default=15.0, gt=0, description="what a receiver may take to answer")
    gateway_webhook_first_retry_seconds: float = Field(
        default=10.0, gt=0, description="after a failed delivery; each wait is three times as long as the one before"
    )
    gateway_webhook_longest_retry_seconds: float = Field(default=6 * 3600.0, gt=0, description="longest such wait")
    gateway_webhook_give_up_seconds: float = Field(
        default=3 * DAY_SECONDS,
        ge=0,
        le=14 * DAY_SECONDS,
        description="how long the deliveries of a job may fail until they are parked; the log of them is kept 30 days",
    )
    gateway_webhook_connections: int = Field(default=4, ge=1, description="requests to one webhook at once")
    gateway_webhook_open_jobs: int = Field(
        default=10_000,
        ge=1,
        description="jobs of which events wait in memory for one webhook; more wait in the log",
    )
    gateway_webhooks: int = Field(default=100, ge=0, description="webhooks that one tenant may have")

    @property
    def webhook_retries(self) -> RetryPolicy:
        """When a failed delivery is tried again."""
        return RetryPolicy(
            self.gateway_webhook_first_retry_seconds,
            self.gateway_webhook_longest_retry_seconds,
            self.gateway_webhook_give_up_seconds,
        )

    @field_validator("gateway_webhook_key")
    @classmethod
    def _is_long_enough(cls, key: SecretStr) -> SecretStr:
        if 0 < len(key.get_secret_value()) < KEY_CHARS_MIN:
            raise ValueError(f"must have at least {KEY_CHARS_MIN} characters, as `openssl rand -hex 32` makes them")
        return key

    @field_validator("gateway_webhook_networks")
    @classmethod
    def _are_networks(cls, networks: str) -> str:
        try:
            networks_of(networks)
        except ValueError as error:
            raise ValueError(
                f"must be networks or addresses such as 10.1.0.0/16, with commas between: {error}"
            ) from error
        return networks
