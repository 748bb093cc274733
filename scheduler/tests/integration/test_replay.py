"""A plan of a running scheduler is captured into a file and made again from it."""

import asyncio
import json
import os
import subprocess
import sys

from dreamforge.runtime.testing import eventually


def replay(*arguments, **options):
    command = [sys.executable, "-m", "dreamforge.scheduler.replay", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


async def test_a_capture_of_a_live_log_replays_its_next_decision(forge, tmp_path):
    await forge.runner("gpu-1", behaviour="ignore")
    jobs = [await forge.submit(priority=number) for number in (2, 8, 5)]
    planning_input = tmp_path / "input.json"
    environment = os.environ | {"FORGE_NATS_URL": forge.url}
    assert (await asyncio.to_thread(replay, "capture", str(planning_input), env=environment)).returncode == 0
    (assignment,) = json.loads((await asyncio.to_thread(replay, str(planning_input))).stdout)
    assert assignment["job"]["job_id"] == jobs[1]
    await forge.scheduler()  # and the scheduler decides as the replay did
    await eventually(lambda: forge.status(jobs[1]), until=lambda status: status == "assigned")
    recorded = (await forge.store.load(jobs[1])).history[-1].event.decision
    assert recorded.candidates[0].model_dump(mode="json") == {
        **assignment["decision"]["candidates"][0],
        "reasons": list(recorded.candidates[0].reasons),
    }


def test_without_a_file_it_says_how_it_is_used():
    run = replay()
    assert run.returncode == 2
    assert "capture input.json" in run.stderr
