"""Which objects the read tables name. What they say counts once they have folded all that is in the log now."""

from collections.abc import Sequence

from dreamforge.contracts.log.streams import JOBS
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.follow import last_sequence
from dreamforge.runtime.storage.postgres import Connection

# Bounds the size of one query's parameters.
KEYS_PER_QUERY = 5_000


async def folded(connection: Connection, newest: int) -> bool:
    """Whether the tables contain JOBS up to a sequence."""
    row = await (
        await connection.execute("SELECT sequence FROM checkpoints WHERE stream = %s", (JOBS.name,))
    ).fetchone()
    return row is not None and isinstance(row[0], int) and row[0] >= newest


async def shown(connection: Connection, keys: Sequence[str]) -> set[str]:
    """Those of the keys that a visible artifact refers to."""
    found: set[str] = set()
    for start in range(0, len(keys), KEYS_PER_QUERY):
        rows = await connection.execute(
            "SELECT DISTINCT object_key FROM artifacts WHERE visible AND object_key = ANY(%s)",
            (list(keys[start : start + KEYS_PER_QUERY]),),
        )
        found |= {str(row[0]) for row in await rows.fetchall()}
    return found


async def named(bus: Bus, connection: Connection, keys: Sequence[str]) -> set[str] | None:
    """Those of the keys that something names now; None while the tables are behind the log."""
    newest = await last_sequence(bus, JOBS.name)
    return await shown(connection, keys) if await folded(connection, newest) else None
