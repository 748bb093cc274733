"""Which variables a service of a stack is given."""

import pytest

from dreamforge.cli.service_settings import read_by

SERVERS = dict.fromkeys(("FORGE_NATS_URL", "FORGE_NATS_SEED_FILE", "FORGE_DATABASE_URL", "FORGE_S3_SECRET_KEY"), "x")
OTHERS = dict.fromkeys(("FORGE_GATEWAY_SESSION_SECRET", "FORGE_HUB_TOKEN", "STRIPE_SECRET_KEY"), "x")
BUS = {"FORGE_NATS_URL", "FORGE_NATS_SEED_FILE"}


@pytest.mark.parametrize(
    ("service", "own"),
    [
        ("gateway", {"FORGE_DATABASE_URL", "FORGE_S3_SECRET_KEY", "FORGE_GATEWAY_SESSION_SECRET"}),
        ("scheduler", set()),
        ("gpu-runner", {"FORGE_S3_SECRET_KEY"}),
        ("projector", {"FORGE_DATABASE_URL", "FORGE_S3_SECRET_KEY"}),
    ],
)
def test_a_service_is_given_the_bus_and_its_own_secrets_only(service: str, own: set[str]) -> None:
    assert read_by(service, SERVERS | OTHERS | {"PATH": "/bin"}).keys() == BUS | own | {"PATH"}
