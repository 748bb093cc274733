"""Which objects the read tables name. What they say counts once they have folded all that is in the log now."""

from collections.abc import Sequence

from dreamforge.contracts.log.streams import JOBS
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.follow import last_sequence
from dreamforge.runtime.storage.objects import UPLOAD_OWNERS, UPLOADS, ObjectStore
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


async def inputs(connection: Connection, hashes: Sequence[str], *, open_only: bool) -> set[str]:
    """Those of the uploads that a job names; `open_only`: one that has not ended."""
    still_open = b" AND jobs.finished_at IS NULL" if open_only else b""
    found: set[str] = set()
    for start in range(0, len(hashes), KEYS_PER_QUERY):
        rows = await connection.execute(
            b"SELECT DISTINCT sha256 FROM job_inputs JOIN jobs USING (job_id) WHERE sha256 = ANY(%s)" + still_open,
            (list(hashes[start : start + KEYS_PER_QUERY]),),
        )
        found |= {str(row[0]) for row in await rows.fetchall()}
    return found


async def named(bus: Bus, connection: Connection, store: ObjectStore, keys: Sequence[str]) -> set[str] | None:
    """Those of the keys that something needs now; None while the tables are behind the log.

    An image is needed while a job shows it, an upload while a tenant owns it or an open job names it.
    """
    newest = await last_sequence(bus, JOBS.name)
    if not await folded(connection, newest):
        return None
    found = await shown(connection, keys)
    uploads = {hash_of(key): key for key in keys if key.startswith(UPLOADS)}
    if uploads:
        needed = await inputs(connection, list(uploads), open_only=True)
        needed |= {hash_of(owner.key) for owner in await store.listed(UPLOAD_OWNERS)}
        found |= {key for sha256, key in uploads.items() if sha256 in needed}
    return found


def hash_of(key: str) -> str:
    """The content hash that a key of an upload, of its owner or of its deletion ends with.

    >>> hash_of("upload-owners/studio-a/ab/ab00")
    'ab00'
    """
    return key.rpartition("/")[2]
