"""The API against its own OpenAPI document, by schemathesis: every response must be one that the document has.

Each operation gets requests that the document allows and requests that it forbids. A real gateway
with all services behind it must answer without a 5xx, with a status, headers, a content type and a body that the
document has, and must not accept what the document forbids. No route is named here: a new one is fuzzed too.
"""

import os
from collections.abc import Callable, Iterator

import pytest
from anyio.from_thread import start_blocking_portal
from schemathesis import Case
from schemathesis.specs.openapi.checks import negative_data_rejection
from system_testkit.api_fuzz import ANSWER_SECONDS, KnownIds, ids_of_new_jobs, named_tests, schema_with
from system_testkit.live_stack import live_stack

from dreamforge.runtime.testing.choice import chosen_servers

pytestmark = [pytest.mark.fault, pytest.mark.timeout(300)]
UNKNOWN_HEADER = "x-schemathesis-unknown-property"
schema = schema_with(int(os.environ.get("FORGE_TEST_FUZZ_EXAMPLES", "30")), coverage=True)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, KnownIds]]:
    """Every service as a process; their loop runs in a thread, since schemathesis waits for each answer."""
    if chosen_servers() != "embedded":
        pytest.skip("starts servers of its own: needs FORGE_TEST_SERVERS=embedded")
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(live_stack(tmp_path_factory.mktemp("api"))) as stack,
    ):
        yield str(stack.client.base_url), portal.call(ids_of_new_jobs, stack)
        assert not stack.exited()


def _test_of(label: str) -> Callable[..., None]:
    @schema.include(name=label).parametrize()
    def test(case: Case, target: tuple[str, KnownIds]) -> None:
        url, known = target
        known.use(case)
        # Where the only thing wrong is a header that we do not know, HTTP has servers ignore it.
        excluded = [negative_data_rejection] if UNKNOWN_HEADER in (case.headers or {}) else []
        case.call_and_validate(base_url=url, timeout=ANSWER_SECONDS, allow_redirects=False, excluded_checks=excluded)

    return test


globals().update(named_tests(schema, _test_of))
