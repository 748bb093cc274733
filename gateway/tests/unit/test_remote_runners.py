"""The listener for runners of other machines: who is refused, and what one that is let in may store and fetch."""

import hashlib
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
import pytest_asyncio

from dreamforge.contracts.errors import ArtifactNotFound
from dreamforge.contracts.models.descriptor import ModelDescriptor, Preset, VramProfile
from dreamforge.contracts.stored_objects import object_key
from dreamforge.gateway.remote_runners.app import remote_application
from dreamforge.gateway.settings import GatewaySettings
from dreamforge.runtime import clock
from dreamforge.runtime.log.seeds import new_seed, public_key_of
from dreamforge.runtime.remote.credentials import RunnerCredentials
from dreamforge.runtime.remote.replies import RemoteAccess, RemoteModels
from dreamforge.runtime.remote.settings import RemoteSettings
from dreamforge.runtime.remote.signatures import SKEW_SECONDS, authorization
from dreamforge.runtime.remote.signed_client import SignsRequests
from dreamforge.runtime.storage.bucket_owner import MARKER
from dreamforge.runtime.storage.model_folder import model_digest
from dreamforge.runtime.storage.objects import upload_key

SEED = new_seed()
PICTURE = b"\x89PNG\r\n\x1a\n a picture"
SHA256 = hashlib.sha256(PICTURE).hexdigest()


class StoredInMemory:
    """The part of an object store that the routes use."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    async def put(self, key: str, data: bytes, content_type: str) -> None:
        self.kept[key] = data

    async def get(self, key: str) -> bytes:
        if key not in self.kept:
            raise ArtifactNotFound(artifact_id=key)
        return self.kept[key]


@pytest.fixture
def credentials(tmp_path: Path) -> RunnerCredentials:
    kept = RunnerCredentials(tmp_path / "users")
    kept.add("gpu-2", public_key_of(SEED), clock.now() + timedelta(hours=1))
    return kept


@pytest.fixture
def stored() -> StoredInMemory:
    return StoredInMemory()


@pytest_asyncio.fixture
async def client(
    tmp_path: Path, credentials: RunnerCredentials, stored: StoredInMemory
) -> AsyncIterator[httpx.AsyncClient]:
    remote = RemoteSettings(
        host="127.0.0.1",
        nats_port=4333,
        certificates_dir=tmp_path,
        credentials_dir=credentials.folder,
        models_dir=tmp_path / "models",
    )
    settings = GatewaySettings(_env_file=None, remote=remote, nats_prefix="studio")  # type: ignore[call-arg]
    app = remote_application(SimpleNamespace(settings=settings, objects=stored))  # type: ignore[arg-type]
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(
        transport=transport, base_url="https://first", auth=SignsRequests(SEED, "gpu-2")
    ) as asked:
        yield asked


async def test_a_runner_learns_how_to_reach_nats_and_its_credential_holds_from_then_on(
    client: httpx.AsyncClient, credentials: RunnerCredentials
) -> None:
    later = clock.now() + timedelta(days=1)
    assert credentials.key_of("gpu-2", later) is None
    answer = RemoteAccess.model_validate_json((await client.get("/v1/runner")).content)
    assert answer == RemoteAccess(runner_id="gpu-2", nats_port=4333, nats_prefix="studio")
    assert credentials.key_of("gpu-2", later) == public_key_of(SEED)


def signed(
    seed: str = SEED, runner_id: str = "gpu-2", path: str = "/v1/runner", late_seconds: int = 0
) -> dict[str, str]:
    seconds = int(clock.now().timestamp()) - late_seconds
    return {"Authorization": authorization(seed, runner_id, "GET", path, seconds)}


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        (lambda: {}, "not signed"),
        (lambda: {"Authorization": "Bearer forge_x"}, "not signed"),
        (lambda: signed(new_seed()), "removed or replaced"),
        (lambda: signed(runner_id="gpu-3"), "removed or replaced"),
        (lambda: signed(path="/v1/check"), "removed or replaced"),
        (lambda: signed(late_seconds=SKEW_SECONDS + 60), "clock differs"),
    ],
)
async def test_what_no_runner_with_a_credential_signed_is_refused(
    client: httpx.AsyncClient, headers: Callable[[], dict[str, str]], why: str
) -> None:
    answer = await client.get("/v1/runner", headers=headers(), auth=httpx.Auth())
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Nkey")
    assert why in answer.json()["detail"]


async def test_a_removed_runner_is_refused_at_once(client: httpx.AsyncClient, credentials: RunnerCredentials) -> None:
    assert (await client.get("/v1/runner")).status_code == 200
    credentials.remove("gpu-2")
    for path in ("/v1/runner", "/v1/models", "/v1/check", f"/v1/objects/{MARKER}"):
        assert (await client.get(path)).status_code == 401, path


async def test_a_picture_is_stored_under_the_hash_of_its_bytes_and_nowhere_else(
    client: httpx.AsyncClient, stored: StoredInMemory
) -> None:
    png, key = {"Content-Type": "image/png"}, object_key(SHA256)
    refused = [
        (key, PICTURE + b".", png, 422),
        (key.replace("images", "uploads"), PICTURE, png, 422),
        (MARKER, b"another log", png, 422),
        (f"images/00/{SHA256}.png", PICTURE, png, 422),
        (key, PICTURE, {"Content-Type": "text/html"}, 415),
    ]
    for at, data, headers, status in refused:
        assert (await client.put(f"/v1/objects/{at}", content=data, headers=headers)).status_code == status, at
    assert stored.kept == {}
    assert (await client.put(f"/v1/objects/{key}", content=PICTURE, headers=png)).status_code == 204
    assert stored.kept == {key: PICTURE}


async def test_inputs_and_the_mark_of_the_bucket_are_read_and_pictures_of_others_are_not(
    client: httpx.AsyncClient, stored: StoredInMemory
) -> None:
    stored.kept = {upload_key(SHA256): PICTURE, MARKER: b"log", object_key(SHA256): PICTURE}
    assert (await client.get(f"/v1/objects/{upload_key(SHA256)}")).content == PICTURE
    assert (await client.get(f"/v1/objects/{MARKER}")).content == b"log"
    assert (await client.get(f"/v1/objects/{object_key(SHA256)}")).status_code == 404
    assert (await client.get(f"/v1/objects/{upload_key('0' * 64)}")).status_code == 404


async def test_models_are_listed_with_their_files_and_read_in_ranges(client: httpx.AsyncClient, tmp_path: Path) -> None:
    folder = tmp_path / "models" / "a-model"
    (folder / "unet").mkdir(parents=True)
    (folder / "unet" / "weights 1.safetensors").write_bytes(b"0123456789")
    (folder / ".secret").write_text("hidden files are no part of a model")
    vram = VramProfile(resident_bytes=1, denoise_bytes_per_latent=1, decode_bytes_per_px=1)
    preset = Preset(name="standard", width_px=64, height_px=64, steps=1, guidance_scale=1)
    descriptor = ModelDescriptor(model_id="m", family="sd", digest=model_digest(folder), vram=vram, presets=(preset,))
    (folder / "dreamforge.json").write_text(descriptor.model_dump_json())
    (model,) = RemoteModels.model_validate_json((await client.get("/v1/models")).content).models
    assert model.descriptor == descriptor
    assert [(file.path, file.size_bytes) for file in model.files] == [("unet/weights 1.safetensors", 10)]
    rest = await client.get("/v1/models/m/unet/weights%201.safetensors", headers={"Range": "bytes=4-"})
    assert (rest.status_code, rest.content) == (206, b"456789")
    for path in (
        "m/.secret",
        "m/dreamforge.json",
        "m/%2e%2e/a-model/dreamforge.json",
        "other/unet/weights%201.safetensors",
    ):
        assert (await client.get(f"/v1/models/{path}")).status_code == 404, path
