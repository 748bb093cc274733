"""Saves the images of a job under readable file names."""

from dataclasses import dataclass, field
from pathlib import Path

from dreamforge.cli.client.gateway import GatewayClient, Json
from dreamforge.contracts.file_names import image_file_name


@dataclass(slots=True)
class ImageSaver:
    """Saves the finished images of one job into a folder, each once."""

    gateway: GatewayClient
    job_id: str
    folder: Path
    _paths: dict[str, Path] = field(default_factory=dict)

    async def save(self) -> list[Path]:
        """Fetch what is finished and not saved yet, check it against its hash, and save it; the new paths.

        Errors: DamagedDownload for bytes with another hash than recorded, CommandError for a folder that cannot be
        written.
        """
        job = await self.gateway.job(self.job_id)
        fresh = [each for each in job["artifacts"] if each["artifact_id"] not in self._paths]
        for artifact in fresh:
            path = self.folder / _file_name(job, artifact)
            self._paths[artifact["artifact_id"]] = await self.gateway.save_image(
                artifact["url"], path, artifact["sha256"]
            )
        return [self._paths[each["artifact_id"]] for each in fresh]

    @property
    def paths(self) -> list[Path]:
        """Every file that was written, in the order of the images."""
        return sorted(set(self._paths.values()), key=lambda path: (len(path.name), path.name))


def _file_name(job: Json, artifact: Json) -> str:
    """Images of a batch's jobs are named after it, by their place in it."""
    prompt, index, content_type = job["request"]["prompt"], artifact["index"], artifact["content_type"]
    if job.get("batch_id"):
        return image_file_name(prompt, job["batch_id"], f"{job['batch_index']:03}-{index}", content_type)
    return image_file_name(prompt, job["job_id"], index, content_type)
