"""The API against its own OpenAPI document, by schemathesis: every response must be one that the document has.

Each operation gets requests that the document allows and requests that it forbids. A real gateway
with all services behind it must answer without a 5xx, with a status, headers, a content type and a body that the
document has, and must not accept what the document forbids. No route is named here: a new one is fuzzed too.
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
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection
from system_testkit.live_stack import LiveStack, live_stack

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
# Those of schemathesis, and 413: a text that is too long may make the whole body too large.
REJECTION = ["400", "401", "403", "404", "405", "406", "409", "413", "415", "422", "428", "429", "5xx"]
UNKNOWN_HEADER = "x-schemathesis-unknown-property"
CONFIG = {
    "seed": SEED,
    "generation": {"max-examples": EXAMPLES, "deterministic": not SEED, "database": "none"},
    "checks": {
        "positive_data_acceptance": {"expected-statuses": ACCEPTANCE},
        "negative_data_rejection": {"expected-statuses": REJECTION},
    },
}
schema = schemathesis.openapi.from_dict(api(Limits()).state.document, config=schemathesis.Config.from_dict(CONFIG))


@dataclass(frozen=True, slots=True)
class FuzzTarget:
    """The gateway's URL, and ids that exist, by the name of the parameter that takes one."""

    url: str
    stack: LiveStack
    known: dict[str, tuple[str, ...]]

    def use_known_ids(self, case: Case) -> None:
        """Half of the allowed requests use an id that exists: random ids always give 404."""
        if case.meta is None or case.meta.generation.mode is not GenerationMode.POSITIVE:
            return
        for place in (case.path_parameters, case.query, case.body):
            if isinstance(place, dict):
                for name in place.keys() & self.known.keys():
                    self._replace(place, name)

    def _replace(self, place: dict[str, Any], name: str) -> None:
        checksum = zlib.crc32(repr(place[name]).encode())  # of the request itself, so that it is reproducible
        if checksum % 2:
            place[name] = self.known[name][checksum // 2 % len(self.known[name])]


async def _jobs(stack: LiveStack) -> dict[str, tuple[str, ...]]:
    """A job that is done, one that was cancelled; and their images; and a batch."""
    done, cancelled = await stack.submit(images=2), await stack.submit(images=4, steps=150)
    await stack.client.post(f"/v1/jobs/{cancelled}/cancel")
    grid = {"request": {"prompt": "a", "model_id": "synthetic"}, "grid": {"steps": [2, 3]}}
    batch = str((await stack.request("POST", "/v1/batches", json=grid)).json()["batch_id"])
    artifacts: Any = (await stack.finished(done))["artifacts"]
    await stack.finished(cancelled)
    pictures = tuple(str(each["artifact_id"]) for each in artifacts)
    return {"job_id": (done, cancelled), "artifact_id": pictures, "model_id": ("synthetic",), "batch_id": (batch,)}


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FuzzTarget]:
    """Every service as a process; their loop runs in a thread, since schemathesis waits for each answer."""
    if chosen_servers() != "embedded":
        pytest.skip("starts servers of its own: needs FORGE_TEST_SERVERS=embedded")
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(live_stack(tmp_path_factory.mktemp("api"))) as stack,
    ):
        yield FuzzTarget(str(stack.client.base_url), stack, portal.call(_jobs, stack))
        assert not stack.exited()


def _test_of(label: str) -> Callable[..., None]:
    @schema.include(name=label).parametrize()
    def test(case: Case, target: FuzzTarget) -> None:
        target.use_known_ids(case)
        # Where the only thing wrong is a header that we do not know, HTTP has servers ignore it.
        excluded = [negative_data_rejection] if UNKNOWN_HEADER in (case.headers or {}) else []
        case.call_and_validate(
            base_url=target.url, timeout=ANSWER_SECONDS, allow_redirects=False, excluded_checks=excluded
        )

    return test


# A test an operation, each under a name of its own: pytest 9.2 gives those of one `parametrize` one id, and of tests
# with one id pytest-xdist runs only the first.
for operation in schema.get_all_operations():
    label = operation.ok().label
    globals()["test_" + re.sub(r"\W+", "_", label.lower()).strip("_")] = _test_of(label)
