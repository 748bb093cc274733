"""The API's document as a source of requests, for schemathesis: the same in every run, unless a seed is given."""

import os
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import schemathesis
from schemathesis import Case, GenerationMode
from schemathesis.core.result import Err
from schemathesis.schemas import BaseSchema

from dreamforge.contracts.request.limits import Limits
from dreamforge.gateway.app import api
from system_testkit.live_stack import LiveStack

SEED = int(os.environ.get("FORGE_TEST_FUZZ_SEED", "0"))
# A stream ends with its job, and jobs of the synthetic renderer end at once; heartbeats come every 15 s.
ANSWER_SECONDS = 30.0
# What is right by the document can be wrong by a model's own bounds, which are known only when it is registered.
ACCEPTANCE = ["2xx", "3xx", "404", "409", "422", "429"]
# Those of schemathesis, and 413: a text that is too long may make the whole body too large.
REJECTION = ["400", "401", "403", "404", "405", "406", "409", "413", "415", "422", "428", "429", "5xx"]


def schema_with(examples: int, *, coverage: bool) -> BaseSchema:
    """The operations of the document, each with so many random requests; `coverage`: and those of every bound in it."""
    config = {
        "seed": SEED,
        "phases": {"coverage": {"enabled": coverage}},
        "generation": {"max-examples": examples, "deterministic": not SEED, "database": "none"},
        "checks": {
            "positive_data_acceptance": {"expected-statuses": ACCEPTANCE},
            "negative_data_rejection": {"expected-statuses": REJECTION},
        },
    }
    document = api(Limits()).state.document.read()
    schema = schemathesis.openapi.from_dict(document, config=schemathesis.Config.from_dict(config))
    return schema.exclude(path="/v1/events")  # its answer does not end


def named_tests(schema: BaseSchema, test_of: Callable[[str], Callable[..., None]]) -> Iterator[tuple[str, Any]]:
    """A test an operation, each under a name of its own, for the globals of a module.

    pytest 9.2 gives the tests of one `parametrize` one id, and of tests with one id pytest-xdist runs only the first.
    """
    for operation in schema.get_all_operations():
        if isinstance(operation, Err):
            raise operation.err()
        label = operation.ok().label
        yield "test_" + re.sub(r"\W+", "_", label.lower()).strip("_"), test_of(label)


@dataclass(frozen=True, slots=True)
class KnownIds:
    """Ids that exist, by the name of the parameter that takes one."""

    ids: dict[str, tuple[str, ...]]

    def use(self, case: Case[Any]) -> None:
        """Half of the allowed requests use an id that exists: random ids always give 404."""
        if case.meta is None or case.meta.generation.mode is not GenerationMode.POSITIVE:
            return
        for place in (case.path_parameters, case.query, case.body):
            if isinstance(place, dict):
                for name in place.keys() & self.ids.keys():
                    self._replace(place, name)

    def _replace(self, place: dict[str, Any], name: str) -> None:
        checksum = zlib.crc32(repr(place[name]).encode())  # of the request itself, so that it is reproducible
        if checksum % 2:
            place[name] = self.ids[name][checksum // 2 % len(self.ids[name])]


async def ids_of_new_jobs(stack: LiveStack) -> KnownIds:
    """A job that is done, one that was cancelled; and their images; and a batch."""
    done, cancelled = await stack.submit(images=2), await stack.submit(images=4, steps=150)
    await stack.request("POST", f"/v1/jobs/{cancelled}/cancel")
    grid = {"request": {"prompt": "a", "model_id": "synthetic"}, "grid": {"steps": [2, 3]}}
    batch = str((await stack.request("POST", "/v1/batches", json=grid)).json()["batch_id"])
    artifacts: Any = (await stack.finished(done))["artifacts"]
    await stack.finished(cancelled)
    pictures = tuple(str(each["artifact_id"]) for each in artifacts)
    return KnownIds(
        {"job_id": (done, cancelled), "artifact_id": pictures, "model_id": ("synthetic",), "batch_id": (batch,)}
    )
