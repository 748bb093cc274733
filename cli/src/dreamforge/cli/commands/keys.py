"""`dreamforge keys`: creates, lists and revokes the API keys of the gateway. It talks to NATS, as operators can."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Annotated

import typer
from pydantic import BaseModel
from rich.text import Text

from dreamforge.cli import settings as cli_settings
from dreamforge.cli.client.event_log import connect_bus
from dreamforge.cli.client.operator import operator
from dreamforge.cli.console import Json, emit, err, out, run
from dreamforge.cli.tables import table_of
from dreamforge.contracts.access import CreateKey, KeyState, RevokeKey, Scope, written_key
from dreamforge.contracts.log.streams import KEYS
from dreamforge.contracts.log.subjects import KEYS_ALL, entity_of
from dreamforge.runtime import clock, ids
from dreamforge.runtime.log import direct_get
from dreamforge.runtime.log.aggregate import KEY
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.event_store import EventStore

app = typer.Typer(
    help="Create, list and revoke API keys (for a gateway with FORGE_GATEWAY_AUTH=keys).",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
SOURCE = "/dreamforge/cli"


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What the key is for: a person, a program.")],
    tenant: Annotated[str, typer.Option(help="Whose jobs it submits and sees.")] = "default",
    scope: Annotated[
        list[Scope] | None, typer.Option(help="What it allows; repeat it for several. Default: read and submit.")
    ] = None,
    expires_days: Annotated[
        float | None, typer.Option(min=0.0, help="Days until it expires; never, if it is left out.")
    ] = None,
    json: Json = False,
) -> None:
    """Create a key and print it: this once, since only its hash is stored.

    Example: export FORGE_API_KEY=$(dreamforge keys create laptop --tenant studio-a)
    """
    now = clock.now()
    key_id, secret = ids.new_key_id(), ids.new_key_secret()
    expires_at = None if expires_days is None else now + timedelta(days=expires_days)
    scopes = frozenset(scope or (Scope.READ, Scope.SUBMIT))
    run(_execute(key_id, CreateKey(now, secret, name, tenant, scopes, expires_at)))
    if json:
        emit({"key_id": key_id, "key": written_key(key_id, secret), "tenant": tenant, "expires_at": expires_at})
        return
    out.print(written_key(key_id, secret), markup=False, soft_wrap=True)
    err.print(f"key {key_id} of tenant {tenant}: keep it now, it is not shown again", markup=False)


@app.command("list")
def list_keys(json: Json = False) -> None:
    """List every key that was created, without its secret."""
    found = run(_read_all())
    if json:
        emit([_row(key_id, state) for key_id, state in found])
        return
    table = table_of("key", "tenant", "scopes", "name", "status")
    for key_id, state in found:
        row = _row(key_id, state)
        table.add_row(key_id, row.tenant, " ".join(row.scopes), Text(row.name), row.status)
    out.print(table)


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="The id in `dreamforge keys list`.")], json: Json = False
) -> None:
    """Revoke a key: every gateway refuses it within a second. It cannot be undone."""
    changed = run(_execute(key_id, RevokeKey(clock.now())))
    if json:
        emit({"key_id": key_id, "revoked": True})
        return
    out.print(f"key {key_id} is revoked" if changed else f"key {key_id} was revoked before", markup=False)


@asynccontextmanager
async def _log() -> AsyncIterator[tuple[Bus, EventStore]]:
    async with connect_bus(cli_settings.load()) as bus:
        store = EventStore(bus, SOURCE, operator())
        try:
            yield bus, store
        finally:
            await store.close()


async def _execute(key_id: str, command: CreateKey | RevokeKey) -> bool:
    async with _log() as (_, store):
        return bool((await store.handle(KEY, key_id, command)).events)


async def revoke_keys_of(tenant: str) -> int:
    """Revoke the keys of a tenant, but the one that this command uses; how many were valid."""
    own = cli_settings.load().api_key.get_secret_value()
    revoked = 0
    async with _log() as (bus, store):
        for key_id, state in await _all(bus, store):
            if state.created is not None and state.created.tenant == tenant and f"_{key_id}_" not in own:
                revoked += bool((await store.handle(KEY, key_id, RevokeKey(clock.now()))).events)
    return revoked


async def _all(bus: Bus, store: EventStore) -> list[tuple[str, KeyState]]:
    named = {entity_of(each.subject) for each in await direct_get.last_of_each(bus, KEYS.name, KEYS_ALL)}
    return [(key_id, (await store.read(KEY, key_id)).state) for key_id in named]


async def _read_all() -> list[tuple[str, KeyState]]:
    async with _log() as (bus, store):
        found = await _all(bus, store)
    return sorted(found, key=lambda each: (each[1].created.at if each[1].created else clock.now(), each[0]))


class KeyRow(BaseModel):
    """A key as it is listed."""

    key_id: str
    name: str
    tenant: str
    scopes: tuple[str, ...]
    created_at: datetime
    status: str


def _row(key_id: str, state: KeyState) -> KeyRow:
    created = state.created
    assert created is not None, "an aggregate begins with its creation"
    status = "valid"
    if state.revoked_at is not None:
        status = f"revoked {state.revoked_at:%Y-%m-%d %H:%M}"
    elif created.expires_at is not None:
        word = "expired" if created.expires_at <= clock.now() else "expires"
        status = f"{word} {created.expires_at:%Y-%m-%d %H:%M}"
    return KeyRow(
        key_id=key_id,
        name=created.name,
        tenant=created.tenant,
        scopes=created.scopes,
        created_at=created.at,
        status=status,
    )
