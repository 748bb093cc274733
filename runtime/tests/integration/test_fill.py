"""How full the log is comes from the servers' own pages, whatever else they store."""

from math import isnan
from pathlib import Path

from prometheus_client import REGISTRY

from dreamforge.runtime.embedded import NatsServer
from dreamforge.runtime.log.fill import fill_of, observe, observe_disk
from dreamforge.runtime.log.names import Names
from dreamforge.runtime.testing import eventually
from dreamforge.runtime.testing.streams import declare_streams


def value(metric: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(metric, labels)


async def test_a_server_tells_what_it_has_stored_and_may_store(nats_server: NatsServer) -> None:
    await declare_streams(nats_server.url)
    server = nats_server.http_url.removeprefix("http://")

    async def is_seen() -> bool:
        await observe(["http://127.0.0.1:9", nats_server.http_url], Names(""))  # the first one is away
        return value("forge_nats_store_bytes", server=server) is not None

    await eventually(is_seen)  # a busy server may take longer than one look waits
    stored, most = value("forge_nats_store_bytes", server=server), value("forge_nats_store_limit_bytes", server=server)
    assert stored is not None
    assert most is not None
    assert 0 <= stored < most
    assert value("forge_stream_bytes", stream="JOBS") is not None
    assert value("forge_nats_store_bytes", server="127.0.0.1:9") is None


def test_a_stream_that_drops_its_oldest_is_never_full_and_those_of_others_are_not_ours() -> None:
    def stream(name: str, discard: str) -> dict[str, object]:
        return {"name": name, "state": {"bytes": 7}, "config": {"max_bytes": 100, "discard": discard}}

    streams = [stream("acme_STEPS", "old"), stream("acme_JOBS", "new"), stream("JOBS", "new"), stream("theirs", "new")]
    page = {"storage": 28, "config": {"max_storage": -1}, "account_details": [{}, {"stream_detail": streams}]}
    fill = fill_of(page, Names("acme"))
    assert fill.limit_bytes == 0
    assert fill.streams == {"STEPS": (7, 0), "JOBS": (7, 100)}


def test_the_disk_of_a_folder_is_measured_when_it_is_asked_for(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    observe_disk(folder)
    assert value("forge_disk_bytes", folder=str(folder)) is None, "a folder that is not there has no disk"
    folder.mkdir()
    observe_disk(folder)
    free, size = (value(name, folder=str(folder)) for name in ("forge_disk_free_bytes", "forge_disk_bytes"))
    assert free is not None
    assert size is not None
    assert 0 < free < size
    folder.rmdir()
    assert isnan(value("forge_disk_bytes", folder=str(folder)) or 0), "and every other metric can still be read"
