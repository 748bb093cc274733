"""Every call of the object store's adapter, times every way in which it can go wrong."""

from collections.abc import Awaitable, Callable

import pytest
from injection import Case
from whole_system import System

from dreamforge.contracts.errors import DependencyAway
from dreamforge.runtime.storage.objects import ObjectStore

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]
# Its own: the services look at theirs now and then, and would be struck instead.
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
    "check": ("HEAD", lambda store: store.check()),
}


@pytest.mark.parametrize("case", Case)
@pytest.mark.parametrize("name", CALLS)
async def test_a_call_that_fails_is_said_and_can_be_repeated(system: System, name: str, case: Case) -> None:
    method, call = CALLS[name]
    store = ObjectStore(system.settings.model_copy(update={"s3_bucket": BUCKET}))
    await store.ensure_bucket()
    await store.put(KEY, BYTES, "image/png")
    with system.weather.bad(case, f"^{method} /{BUCKET}") as fault:
        with pytest.raises(DependencyAway) as told:
            await call(store)
        assert (fault.met, told.value.dependency) == (1, "s3")
        await call(store)
    found = await store.listed(PREFIX)
    assert [(each.key, each.size_bytes) for each in found] == ([] if name == "remove" else [(KEY, len(BYTES))])
    await store.remove(KEY)
