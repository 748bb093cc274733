"""The API where keys are asked for, by schemathesis: each request is sent without one, and with keys of two scopes.

Without a key, whatever is sent to an operation that needs one is answered 401, and nothing else is learned. With a key
that may read and submit, and with an administrator's, every response is one that the document has.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from anyio.from_thread import start_blocking_portal
from requests import Session
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.core.transport import Response
from schemathesis.specs.openapi import checks
from system_testkit.api_fuzz import ANSWER_SECONDS, KnownIds, ids_of_new_jobs, named_tests, schema_with
from system_testkit.live_stack import LiveStack, live_stack

from dreamforge.contracts.access import CreateKey, Scope, written_key
from dreamforge.runtime import clock, ids
from dreamforge.runtime.log import bus as bus_module
from dreamforge.runtime.log.aggregate import KEY
from dreamforge.runtime.log.event_store import EventStore
from dreamforge.runtime.testing import eventually
from dreamforge.runtime.testing.choice import chosen_servers

pytestmark = pytest.mark.fault
PROBLEM_FIELDS = frozenset(("type", "title", "status", "detail", "instance", "code", "request_id", "reason"))
EXAMPLES = 10  # there are many more without keys (test_api_fuzz.py)
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
schema = schema_with(EXAMPLES, coverage=False)


@dataclass(frozen=True, slots=True)
class Target:
    """A gateway that asks for keys; `sessions` without one, with one that reads and submits, with an admin's."""

    url: str
    sessions: tuple[Session, Session, Session]
    known: KnownIds

    def call(self, case: Case, session: Session) -> Response:
        """One request, judged by the document."""
        return case.call_and_validate(
            base_url=self.url, session=session, checks=CHECKS, timeout=ANSWER_SECONDS, allow_redirects=False
        )


async def _new_key(stack: LiveStack, *scopes: Scope) -> str:
    """A key that the gateway knows."""
    bus = await bus_module.connect(stack.settings.nats_url, "fuzz")
    store, key_id, secret = EventStore(bus, "/dreamforge/fuzz"), ids.new_key_id(), ids.new_key_secret()
    await store.handle(KEY, key_id, CreateKey(clock.now(), secret, "fuzz", "fuzz", frozenset(scopes)))
    await store.close()
    await bus.close()
    key = written_key(key_id, secret)

    async def known() -> int:
        return (await stack.client.get("/v1/me", headers={"Authorization": f"Bearer {key}"})).status_code

    await eventually(known, until=lambda status: status == 200)
    return key


def _session(key: str | None) -> Session:
    session = Session()
    session.trust_env = False  # no credential of a .netrc
    session.headers.update({"Authorization": f"Bearer {key}"} if key else {})
    return session


async def _target(stack: LiveStack) -> Target:
    user, admin = await _new_key(stack, Scope.READ, Scope.SUBMIT), await _new_key(stack, Scope.ADMIN)
    stack.client.headers["Authorization"] = f"Bearer {user}"
    sessions = _session(None), _session(user), _session(admin)
    return Target(str(stack.client.base_url), sessions, await ids_of_new_jobs(stack))


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """Every service as a process; their loop runs in a thread, since schemathesis waits for each answer."""
    if chosen_servers() != "embedded":
        pytest.skip("starts servers of its own: needs FORGE_TEST_SERVERS=embedded")
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(
            live_stack(tmp_path_factory.mktemp("keys"), FORGE_GATEWAY_AUTH="keys")
        ) as stack,
    ):
        yield portal.call(_target, stack)
        assert not stack.exited()


def _test_of(label: str) -> Callable[..., None]:
    @schema.include(name=label).parametrize()
    def test(case: Case, target: Target) -> None:
        target.known.use(case)
        for name in ("Authorization", "Cookie"):
            case.headers.pop(name, None)
        nobody, user, admin = (target.call(case, session) for session in target.sessions)
        if "x-scope" not in case.operation.definition.raw or case.method == "OPTIONS":
            return  # public, or no operation
        assert (nobody.status_code, nobody.json()["code"]) == (401, "not_authenticated")
        assert nobody.headers["content-type"] == ["application/problem+json"]
        assert set(nobody.json()) == PROBLEM_FIELDS
        assert user.status_code != 401
        assert admin.status_code not in (401, 403)

    return test


globals().update(named_tests(schema, _test_of))
