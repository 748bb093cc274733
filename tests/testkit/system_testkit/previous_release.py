"""What a release has left behind (tests/previous_release/record.py), put into a folder for the services of today."""

import json
import tarfile
from pathlib import Path
from typing import Any

import psycopg

from dreamforge.runtime.embedded import PostgresServer

RECORDED = Path(__file__).resolve().parents[2] / "previous_release"


def unpack(folder: Path) -> list[dict[str, Any]]:  # Any: JSON
    """Make `folder` the folder `.forge` of that release; its jobs, as that release showed them."""
    (recorded,) = RECORDED.glob("*.tar.xz")
    with tarfile.open(recorded) as archive:
        archive.extractall(folder.parent, filter="data")
    (folder.parent / ".forge").rename(folder)
    jobs: list[dict[str, Any]] = json.loads((folder / "jobs.json").read_text())
    return jobs


async def fill_tables(folder: Path, server: PostgresServer) -> None:
    """Put the tables of that release into an empty database."""
    lines = (folder / "tables.sql").read_text().splitlines()
    text = "\n".join(line for line in lines if not line.startswith("\\"))  # psql's own commands
    async with await psycopg.AsyncConnection.connect(server.url, autocommit=True) as connection:
        await connection.execute(text.encode())
