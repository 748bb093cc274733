"""Proves that the read tables are the fold of the log: folds it again beside them and compares every row.

Left out are `steps` (volatile by design) and runners whose registration the log no longer holds (FLEET keeps 90
days).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from psycopg import sql

from dreamforge.contracts.tables import metadata
from dreamforge.projector.maintenance.live_tables import live_checkpoints, open_bus, writes_paused
from dreamforge.projector.maintenance.progress import MaintenanceProgress, OnProgress, ignore_progress, reporting
from dreamforge.projector.maintenance.shadow_tables import ShadowTables, shadow_tables
from dreamforge.projector.writing.same_log import refuse_other_log
from dreamforge.projector.writing.statements import columns_of
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.storage.postgres import Connection, connect
from dreamforge.runtime.storage.settings import StorageSettings

SCHEMA = "forge_verify"
TABLES = ("jobs", "batches", "attempts", "artifacts", "job_inputs", "events", "models", "runners", "tenant_usage")
LOCK_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class TableProof:
    """One table, live and folded again. The hash covers whole rows, in no order."""

    table: str
    live_rows: int
    fresh_rows: int
    live_hash: str
    fresh_hash: str

    @property
    def equal(self) -> bool:
        return (self.live_rows, self.live_hash) == (self.fresh_rows, self.fresh_hash)


@dataclass(frozen=True, slots=True)
class Difference:
    """The first row, by primary key, that differs; None on the side where it is missing."""

    table: str
    key: dict[str, object]
    live: dict[str, object] | None
    fresh: dict[str, object] | None

    def columns(self) -> list[str]:
        """The columns that differ; all of them when the row is missing on one side.

        >>> Difference("jobs", {"job_id": "J"}, {"version": 1, "status": "a"}, {"version": 1, "status": "b"}).columns()
        ['status']
        """
        live, fresh = self.live or {}, self.fresh or {}
        return [name for name in {**live, **fresh} if live.get(name) != fresh.get(name) or not (live and fresh)]


@dataclass(frozen=True, slots=True)
class Verified:
    """What the comparison found; `places` are the sequences of the streams at which it was made."""

    places: dict[str, int]
    tables: tuple[TableProof, ...]
    first_difference: Difference | None

    @property
    def equal(self) -> bool:
        return self.first_difference is None and all(proof.equal for proof in self.tables)


async def verify(settings: StorageSettings, on_progress: OnProgress = ignore_progress) -> Verified:
    """Compare the live tables with a new fold at the same sequences.

    Writes to the live tables are paused only while the new fold catches up the last few events.
    Errors: MaintenanceRunning, OtherLog, DependencyAway, psycopg.OperationalError.
    """
    async with (
        open_bus(settings, "verify") as bus,
        shadow_tables(settings, bus, SCHEMA) as shadow,
        _reader(settings) as reader,
    ):
        await refuse_other_log(bus, reader)
        checkpoints = await live_checkpoints(reader, bus)
        async with reporting("folding", shadow.jobs_sequence, checkpoints.get("JOBS", 0), on_progress):
            await shadow.fold_up_to(checkpoints)
        async with writes_paused(settings, LOCK_SECONDS) as live:
            checkpoints = await live_checkpoints(live, bus)
            await shadow.fold_up_to(checkpoints)
            await reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            await reader.execute("SELECT 1")  # takes the snapshot: both sides at the same sequences
        on_progress(MaintenanceProgress("comparing", checkpoints.get("JOBS", 0), checkpoints.get("JOBS", 0)))
        return await _compare(reader, shadow, bus, checkpoints)


@asynccontextmanager
async def _reader(settings: StorageSettings) -> AsyncIterator[Connection]:
    url = settings.database_url.get_secret_value()
    async with await connect(url, name="dreamforge-verify") as connection:
        yield connection


async def _compare(reader: Connection, shadow: ShadowTables, bus: Bus, checkpoints: dict[str, int]) -> Verified:
    info = await bus.request("$JS.API.STREAM.INFO.FLEET", None)
    oldest = {"runners": int(info["state"]["first_seq"])}
    proofs = [await _prove(reader, shadow.schema, table, oldest.get(table, 0)) for table in TABLES]
    unequal = next((proof.table for proof in proofs if not proof.equal), None)
    difference = await _first_difference(reader, shadow.schema, unequal, oldest.get(unequal, 0)) if unequal else None
    return Verified(checkpoints, tuple(proofs), difference)


def _rows(schema: str | None, table: str, oldest: int) -> sql.Composed:
    """The rows to compare, columns in declared order: a migrated table may have added ones in another place."""
    source = sql.Identifier(schema, table) if schema else sql.Identifier(table)
    columns = sql.SQL(", ").join(sql.Identifier(name) for name in columns_of(metadata.tables[table]))
    rows = sql.SQL("SELECT {} FROM {}").format(columns, source)
    return rows + sql.SQL(" WHERE sequence >= {}").format(sql.Literal(oldest)) if oldest else rows


async def _prove(reader: Connection, schema: str, table: str, oldest: int) -> TableProof:
    live, fresh = [await _hash(reader, _rows(where, table, oldest)) for where in (None, schema)]
    return TableProof(table, live[0], fresh[0], live[1], fresh[1])


async def _hash(reader: Connection, rows: sql.Composed) -> tuple[int, str]:
    """How many, and the sum of two 64-bit hashes of each."""
    query = sql.SQL(
        "SELECT count(*), coalesce(sum(hashtextextended(r::text, 0)::numeric), 0)::text"
        " || ':' || coalesce(sum(hashtextextended(r::text, 1)::numeric), 0)::text FROM ({}) AS r"
    ).format(rows)
    found = await (await reader.execute(query)).fetchone()
    assert found is not None
    return int(str(found[0])), str(found[1])


async def _first_difference(reader: Connection, schema: str, table: str, oldest: int) -> Difference | None:
    keys = [column.name for column in metadata.tables[table].primary_key.columns]
    same_key = sql.SQL(" AND ").join(sql.SQL("l.{0} = f.{0}").format(sql.Identifier(key)) for key in keys)
    order = sql.SQL(", ").join(sql.SQL("coalesce(l.{0}, f.{0})").format(sql.Identifier(key)) for key in keys)
    query = sql.SQL(
        "SELECT to_jsonb(l), to_jsonb(f) FROM ({}) AS l FULL JOIN ({}) AS f ON {}"
        " WHERE l::text IS DISTINCT FROM f::text ORDER BY {} LIMIT 1"
    ).format(_rows(None, table, oldest), _rows(schema, table, oldest), same_key, order)
    found = await (await reader.execute(query)).fetchone()
    if found is None:
        return None
    live, fresh = _row(found[0]), _row(found[1])
    some = live or fresh or {}
    return Difference(table, {key: some[key] for key in keys}, live, fresh)


def _row(value: object) -> dict[str, object] | None:
    return value if isinstance(value, dict) else None
