"""Puts a job's pictures on disk under names that people can read."""

import asyncio
import hashlib
import re
from pathlib import Path

from dreamforge.cli.client.gateway import Gateway, Json
from dreamforge.cli.failure import CommandError

SLUG_CHARS = 40


def file_name(prompt: str, job_id: str, index: int) -> str:
    """What the picture shows, which job made it, and its place in it.

    >>> file_name("A lighthouse, at dawn!", "01a20638-499f-7288-a6c2-5e668ec21e03", 0)
    'a-lighthouse-at-dawn-8ec21e03-0.png'
    """
    slug = re.sub(r"[^a-z0-9]+", "-", prompt.lower())[:SLUG_CHARS].strip("-")
    return f"{slug or 'picture'}-{job_id[-8:]}-{index}.png"


async def save_pictures(gateway: Gateway, job: Json, folder: Path) -> list[Path]:
    """Fetch every picture of a succeeded job, check it against its hash, and save it; their paths.

    Errors: CommandError when the bytes are not those that were promised, or the folder cannot be written.
    """
    paths = []
    for artifact in job["artifacts"]:
        data = await gateway.picture(artifact["url"])
        if (found := hashlib.sha256(data).hexdigest()) != artifact["sha256"]:
            facts = {"artifact": artifact["artifact_id"], "expected": artifact["sha256"], "found": found}
            raise CommandError("the picture is not the one that was rendered", facts=facts)
        path = folder / file_name(job["request"]["prompt"], job["job_id"], artifact["index"])
        await asyncio.to_thread(_write, path, data)
        paths.append(path)
    return paths


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        hint = "choose another folder with --output or FORGE_OUTPUT_DIR"
        raise CommandError(f"cannot save the picture: {error}", hint=hint) from error
