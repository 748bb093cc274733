"""Ready is what can be used: a log that stores, a bucket that keeps."""

import pytest

from dreamforge.contracts.errors import DependencyAway
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.probe import LogProbe
from dreamforge.runtime.service.settings import CommonSettings
from dreamforge.runtime.storage.objects import ObjectStore
from dreamforge.runtime.testing.buckets import S3Settings


async def test_a_log_that_is_connected_and_stores_nothing_is_not_ready(bus: Bus) -> None:
    probe = LogProbe(bus, "test")
    await probe.check()
    config = (await bus.request("$JS.API.STREAM.INFO.PROBES", None))["config"]
    await bus.request("$JS.API.STREAM.UPDATE.PROBES", config | {"max_bytes": 1})
    with pytest.raises(DependencyAway, match="connected, but it stores nothing: maximum bytes exceeded"):
        await probe.check()
    await bus.request("$JS.API.STREAM.DELETE.PROBES", None)
    with pytest.raises(DependencyAway, match="connected, but it stores nothing"):
        await probe.check()
    assert bus.connected


async def test_a_store_without_its_bucket_is_not_ready(s3_settings: S3Settings) -> None:
    named = {name.removeprefix("FORGE_").lower(): value for name, value in s3_settings.settings_env().items()}
    store = ObjectStore(CommonSettings(_env_file=None, **named))  # type: ignore[call-arg, arg-type]
    with pytest.raises(DependencyAway, match="bucket"):
        await store.check()
    await store.ensure_bucket()
    await store.check()
