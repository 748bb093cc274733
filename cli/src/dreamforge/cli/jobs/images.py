"""Saves the images of a job under readable file names."""

import asyncio
import hashlib
from pathlib import Path

from dreamforge.cli.client.gateway import GatewayClient, Json
from dreamforge.cli.failure import CommandError
from dreamforge.contracts.file_names import image_file_name


async def save_images(gateway: GatewayClient, job: Json, folder: Path) -> list[Path]:
    """Fetch every image of a succeeded job, check it against its hash, and save it; their paths.

    Errors: CommandError for bytes with another hash than recorded, and for a folder that cannot be written.
    """
    paths = []
    for artifact in job["artifacts"]:
        data = await gateway.image(artifact["url"])
        if (found := hashlib.sha256(data).hexdigest()) != artifact["sha256"]:
            facts = {"artifact": artifact["artifact_id"], "expected": artifact["sha256"], "found": found}
            raise CommandError("the image is not the one that was rendered", facts=facts)
        path = folder / image_file_name(job["request"]["prompt"], job["job_id"], artifact["index"])
        await asyncio.to_thread(_write, path, data)
        paths.append(path)
    return paths


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        hint = "choose another folder with --output or FORGE_OUTPUT_DIR"
        raise CommandError(f"cannot save the image: {error}", hint=hint) from error
