"""Follows a job to its end in the terminal and saves its images: the last part of several commands."""

import asyncio
from pathlib import Path

from dreamforge.cli.client.gateway import GatewayClient
from dreamforge.cli.console import err, out
from dreamforge.cli.failure import CommandError, Exit
from dreamforge.cli.jobs.images import save_images
from dreamforge.cli.jobs.progress import JobView
from dreamforge.cli.jobs.watch import NoDisplay, display_on, line_of, watch
from dreamforge.cli.next_command import next_command


async def watch_and_save(
    gateway: GatewayClient, job_id: str, folder: Path, *, quiet: bool
) -> tuple[JobView, list[Path]]:
    """Watch a job to its end, then save its images; progress goes to stderr unless `quiet`."""
    if quiet:
        view = await watch(gateway, job_id, NoDisplay())
    else:
        err.print(f"job {job_id}", style="dim")
        view = await _watch_on_stderr(gateway, job_id)
    if view.status != "succeeded":
        return view, []
    paths = await save_images(gateway, await gateway.job(job_id), folder)
    if not quiet:
        for path in paths:
            out.print(str(path), soft_wrap=True)
    return view, paths


async def _watch_on_stderr(gateway: GatewayClient, job_id: str) -> JobView:
    """Watch with a display; a user who interrupts is told that the job continues."""
    try:
        with display_on(err) as display:
            return await watch(gateway, job_id, display)
    except asyncio.CancelledError:
        err.print(f"the job continues: {next_command(f'jobs watch {job_id}')} (or jobs cancel)", soft_wrap=True)
        raise


def raise_unless_succeeded(job_id: str, view: JobView) -> None:
    """Errors: CommandError with the job's own reason."""
    if view.status != "succeeded":
        facts = {"job": job_id}
        hint = f"{next_command(f'jobs why {job_id}')} says more"
        raise CommandError(f"the job ended: {line_of(view)}", Exit.JOB_ENDED, facts, hint)
