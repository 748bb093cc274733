"""A key is refused as soon as its history is in doubt."""

from dataclasses import replace
from datetime import UTC, datetime

from dreamforge.contracts.access import CreateKey, KeyState, Scope, decide_key, evolve_key, identity_of_key, written_key

NOW = datetime(2026, 11, 26, tzinfo=UTC)
SECRET = "A" * 43
KEY = written_key("0123456789", SECRET)


def created(secret: str = SECRET, scopes: frozenset[Scope] = frozenset({Scope.READ})) -> KeyState:
    state = KeyState()
    for event in decide_key("0123456789", state, CreateKey(NOW, secret, "n", "t", scopes)):
        state = evolve_key(state, event)
    return state


def test_a_distrusted_key_is_refused() -> None:
    state = created()
    assert identity_of_key(KEY, {"0123456789": state}, NOW) is not None
    assert identity_of_key(KEY, {"0123456789": replace(state, distrusted=True)}, NOW) is None


def test_a_second_creation_changes_neither_secret_nor_scopes() -> None:
    forged = created("B" * 43, frozenset({Scope.ADMIN})).created
    assert forged is not None
    assert evolve_key(created(), forged) == created()
