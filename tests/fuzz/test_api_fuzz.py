"""The API as its own OpenAPI document says it, asked by schemathesis: whatever is sent, the document tells the answer.

Each operation gets requests that the document allows and requests that it forbids. A real gateway
with all services behind it must answer without a 5xx, with a status, headers, a content type and a body that the
document has, and must not take what the document forbids. Nothing here knows a route: what is added is fuzzed.
"""

import os
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import schemathesis
from anyio.from_thread import start_blocking_portal
from live_stack import LiveStack, live_stack
from schemathesis import Case, GenerationMode

from dreamforge.contracts.request.limits import Limits
from dreamforge.gateway.app import api
from dreamforge.runtime.testing.choice import chosen_servers

pytestmark = pytest.mark.timeout(300)
EXAMPLES = int(os.environ.get("FORGE_TEST_FUZZ_EXAMPLES", "100"))
# The same requests in every run, unless a seed asks for others.
SEED = int(os.environ.get("FORGE_TEST_FUZZ_SEED", "0"))
# A stream ends with its job, and jobs of the synthetic renderer end at once; heartbeats come every 15 s.
ANSWER_SECONDS = 30.0
# What is right by the document can be wrong by a model's own bounds, which are known only when it is registered.
ACCEPTANCE = ["2xx", "3xx", "404", "409", "422", "429"]
CONFIG = {
    "seed": SEED,
    "generation": {"max-examples": EXAMPLES, "deterministic": not SEED, "database": "none"},
    "checks": {"positive_data_acceptance": {"expected-statuses": ACCEPTANCE}},
}
schema = schemathesis.openapi.from_dict(api(Limits()).state.document, config=schemathesis.Config.from_dict(CONFIG))


@dataclass(frozen=True, slots=True)
class Door:
    """Where to knock, and ids of things that are there, by the name of the parameter that takes one."""

    url: str
    stack: LiveStack
    known: dict[str, tuple[str, ...]]

    def lead_somewhere(self, case: Case) -> None:
        """Half of the allowed requests name something that is there: made-up ids only ever find nothing."""
        if case.meta is None or case.meta.generation.mode is not GenerationMode.POSITIVE:
            return
        for place in (case.path_parameters, case.query, case.body):
            if isinstance(place, dict):
                for name in place.keys() & self.known.keys():
                    self._lead(place, name)

    def _lead(self, place: dict[str, Any], name: str) -> None:
        chance = zlib.crc32(repr(place[name]).encode())  # of the request itself, so that it can be had again
        if chance % 2:
            place[name] = self.known[name][chance // 2 % len(self.known[name])]


async def _jobs(stack: LiveStack) -> dict[str, tuple[str, ...]]:
    """A job that is done, one that was cancelled; and their pictures."""
    done, cancelled = await stack.submit(images=2), await stack.submit(images=4, steps=150)
    await stack.client.post(f"/v1/jobs/{cancelled}/cancel")
    artifacts: Any = (await stack.finished(done))["artifacts"]
    await stack.finished(cancelled)
    pictures = tuple(str(each["artifact_id"]) for each in artifacts)
    return {"job_id": (done, cancelled), "artifact_id": pictures, "model_id": ("synthetic",)}


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """Every service as a process; their loop runs in a thread, since schemathesis waits for each answer."""
    if chosen_servers() != "embedded":
        pytest.skip("starts servers of its own: needs FORGE_TEST_SERVERS=embedded")
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(live_stack(tmp_path_factory.mktemp("api"))) as stack,
    ):
        yield Door(str(stack.client.base_url), stack, portal.call(_jobs, stack))
        assert not stack.ended()


def _test_of(label: str) -> Callable[..., None]:
    @schema.include(name=label).parametrize()
    def test(case: Case, door: Door) -> None:
        door.lead_somewhere(case)
        case.call_and_validate(base_url=door.url, timeout=ANSWER_SECONDS, allow_redirects=False)

    return test


# A test an operation, each under a name of its own: pytest 9.2 gives those of one `parametrize` one id, and of tests
# with one id pytest-xdist runs only the first.
for operation in schema.get_all_operations():
    label = operation.ok().label
    globals()["test_" + re.sub(r"\W+", "_", label.lower()).strip("_")] = _test_of(label)
