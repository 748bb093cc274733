"""Every call of the object store's adapter, times every way in which it can go wrong."""

from collections.abc import Awaitable, Callable

import pytest
from system_testkit.fault_injection import FaultCase
from system_testkit.in_process_system import InProcessSystem

from dreamforge.contracts.errors import DependencyAway
from dreamforge.runtime.storage.objects import ObjectStore

pytestmark = [pytest.mark.fault, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]
# Its own bucket: the services use theirs now and then, and would get the fault instead.
BUCKET = "matrix"
PREFIX, KEY, BYTES = "images/matrix/", "images/matrix/one.png", b"a picture"
CALLS: dict[str, tuple[str, Callable[[ObjectStore], Awaitable[object]]]] = {
    "make the bucket": ("HEAD", lambda store: store.ensure_bucket()),
    "put": ("PUT", lambda store: store.put(KEY, BYTES, "image/png")),
    "get": ("GET", lambda store: store.get(KEY)),
    "stat": ("HEAD", lambda store: store.exists(KEY)),
    "when": ("HEAD", lambda store: store.modified_at(KEY)),
    "list": ("GET", lambda store: store.listed(PREFIX)),
    "copy": ("PUT", lambda store: store.copy(KEY, f"copies/{KEY}")),
    "remove": ("DELETE", lambda store: store.remove(KEY)),
    "check": ("PUT", lambda store: store.check()),
}


@pytest.mark.parametrize("case", FaultCase)
@pytest.mark.parametrize("name", CALLS)
async def test_a_failed_call_raises_and_can_be_repeated(system: InProcessSystem, name: str, case: FaultCase) -> None:
    method, call = CALLS[name]
    store = ObjectStore(system.settings.model_copy(update={"s3_bucket": BUCKET}))
    await store.ensure_bucket()
    await store.put(KEY, BYTES, "image/png")
    with system.faults.inject(case, f"^{method} /{BUCKET}") as fault:
        with pytest.raises(DependencyAway) as caught:
            await call(store)
        assert (fault.hits, caught.value.dependency) == (1, "s3")
        await call(store)
    found = await store.listed(PREFIX)
    assert [(each.key, each.size_bytes) for each in found] == ([] if name == "remove" else [(KEY, len(BYTES))])
    await store.remove(KEY)
