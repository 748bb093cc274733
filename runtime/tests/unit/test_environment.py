"""A process is given what it reads, and no secret of anybody else."""

from dreamforge.runtime.sandbox.environment import renderer_environment, without_secrets
from dreamforge.runtime.service.settings import CommonSettings, declared
from dreamforge.runtime.storage.settings import DatabaseSettings, ObjectStoreSettings, StorageSettings

GIVEN = {
    "PATH": "/bin",
    "HTTPS_PROXY": "http://user:password@proxy",
    "TOKENIZERS_PARALLELISM": "false",
    "FORGE_NATS_URL": "nats://h",
    "FORGE_RETRY": "{}",
    "FORGE_S3_SECRET_KEY": "s",
    "FORGE_DATABASE_URL": "postgresql://u:p@h/d",
    "FORGE_HUB_TOKEN": "s",
    "PGPASSWORD": "s",
    "AWS_SECRET_ACCESS_KEY": "s",
    "HF_TOKEN": "s",
    "GITHUB_TOKEN": "s",
    "STRIPE_APIKEY": "s",
    "SENTRY_DSN": "s",
    "SSH_AUTH_SOCK": "/tmp/agent",
}
EVERY_PROCESS = {"PATH", "HTTPS_PROXY", "TOKENIZERS_PARALLELISM", "FORGE_NATS_URL", "FORGE_RETRY"}


def test_a_service_is_given_the_settings_that_it_declares() -> None:
    database, store = {"FORGE_DATABASE_URL", "PGPASSWORD"}, {"FORGE_S3_SECRET_KEY"}
    for kind, own in (
        (CommonSettings, set()),
        (DatabaseSettings, database),
        (ObjectStoreSettings, store),
        (StorageSettings, database | store),
    ):
        assert without_secrets(GIVEN, declared(kind)).keys() == EVERY_PROCESS | own, kind


def test_names_of_settings_are_known_in_small_letters_too() -> None:
    given = {"forge_nats_url": "nats://h", "forge_hub_token": "s"}
    assert without_secrets(given, declared(CommonSettings)) == {"forge_nats_url": "nats://h"}


def test_a_renderer_is_given_what_its_libraries_read() -> None:
    libraries = {
        "CUDA_VISIBLE_DEVICES": "1",
        "OMP_NUM_THREADS": "2",
        "HF_HOME": "/m",
        "LD_LIBRARY_PATH": "/usr/lib/wsl",
    }
    assert renderer_environment(GIVEN | libraries).keys() == {"PATH", "TOKENIZERS_PARALLELISM", *libraries}
    assert "VENDOR_FLAG" in renderer_environment({"VENDOR_FLAG": "1"}, {"VENDOR_FLAG"})
