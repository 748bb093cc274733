"""Follows a job to its end in the terminal and saves its images: the last part of several commands."""

import asyncio
from pathlib import Path

from dreamforge.cli.client.gateway import GatewayClient
from dreamforge.cli.console import err, out
from dreamforge.cli.failure import CommandError, Exit
from dreamforge.cli.jobs.images import ImageSaver
from dreamforge.cli.jobs.progress import JobView
from dreamforge.cli.jobs.watch import NoDisplay, display_on, line_of, watch
from dreamforge.cli.next_command import next_command


async def watch_and_save(
    gateway: GatewayClient, job_id: str, folder: Path, *, quiet: bool
) -> tuple[JobView, list[Path]]:
    """Watch a job to its end and save its images, each when it is finished; progress goes to stderr unless `quiet`.

    A job that is cancelled or fails has the images that it finished before; they are saved, too.
    """
    saver = ImageSaver(gateway, job_id, folder)
    if quiet:
        view = await watch(gateway, job_id, NoDisplay(), saver.save)
    else:
        err.print(f"job {job_id}", style="dim")
        view = await _watch_on_stderr(gateway, job_id, saver)
    if view.images_stored:
        await saver.save()
    if not quiet:
        for path in saver.paths:
            out.print(str(path), soft_wrap=True)
    return view, saver.paths


async def _watch_on_stderr(gateway: GatewayClient, job_id: str, saver: ImageSaver) -> JobView:
    """Watch with a display; a user who interrupts is told that the job continues."""

    async def save() -> None:
        for path in await saver.save():
            err.print(f"finished: {path}", style="dim", markup=False, soft_wrap=True)

    try:
        with display_on(err) as display:
            return await watch(gateway, job_id, display, save)
    except asyncio.CancelledError:
        err.print(f"the job continues: {next_command(f'jobs watch {job_id}')} (or jobs cancel)", soft_wrap=True)
        raise


def raise_unless_succeeded(job_id: str, view: JobView) -> None:
    """Errors: CommandError with the job's own reason, and how many images it finished before."""
    if view.status != "succeeded":
        finished = f"{len(view.images_stored)} of {view.images}"
        facts = {"job": job_id} | ({"images finished before": finished} if view.images_stored else {})
        hint = f"{next_command(f'jobs why {job_id}')} says more, `jobs retry` in its place requests it again"
        raise CommandError(f"the job ended: {line_of(view)}", Exit.JOB_ENDED, facts, hint)
