"""Both clients against a whole running system: connections that are cut, a gateway that is killed, refusals."""

import asyncio
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from zipfile import ZipFile

import pytest
import pytest_asyncio
from system_testkit.documents import snippets
from system_testkit.live_stack import LiveStack, live_stack

sys.path.insert(0, str(Path(__file__).parent))  # tests are imported by path; what they share needs a name

from cutting_proxy import cutting_proxy

from dreamforge.client import AsyncClient, Client, JobNotSucceeded, Retries, WaitTimeout
from dreamforge.client.errors import LimitExceeded, RequestRefused, ResourceNotFound
from dreamforge.client.machine import Deadline
from dreamforge.contracts.events import StepProgressed
from dreamforge.contracts.jobs.course import Status
from dreamforge.contracts.request.values import UpscaleInput

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]
SMALL = {"model_id": "synthetic", "steps": 3}
SECONDS = 60.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveStack]:
    """Processes, so that one of them can be killed."""
    async with live_stack(tmp_path_factory.mktemp("client"), FORGE_RUNNER_STEP_DELAY_SECONDS="0.02") as running:
        yield running


@pytest.fixture
def url(stack: LiveStack) -> str:
    return str(stack.client.base_url).rstrip("/")


@pytest_asyncio.fixture(loop_scope="module")
async def client(url: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(url) as client:
        yield client


def names_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


async def test_from_a_request_to_checked_files(client: AsyncClient, tmp_path: Path) -> None:
    job = await client.jobs.create(prompt="a red circle", images=2, seed=7, idempotency_key="once", **SMALL)
    again = await client.jobs.create(prompt="a red circle", images=2, seed=7, idempotency_key="once", **SMALL)
    assert again.id == job.id
    events = [event async for event in job.events()]
    assert [each.name for each in events if each.name != "step"] == [
        "requested", "assigned", "started", "artifact", "artifact", "succeeded",
    ]  # fmt: skip
    assert {each.event.step for each in events if isinstance(each.event, StepProgressed)} == {1, 2, 3}
    done = await job.wait(SECONDS)
    files = await job.download(tmp_path / "new folder")
    assert [hashlib.sha256(file.read_bytes()).hexdigest() for file in files] == [each.sha256 for each in done.artifacts]
    assert names_in(tmp_path / "new folder") == sorted(file.name for file in files)
    assert await client.artifacts.read(done.artifacts[1].artifact_id) == files[1].read_bytes()
    assert (await job.why()).attempts[0].attempt == 1
    assert job.id in [each.job_id async for each in client.jobs.list(status=Status.SUCCEEDED)]
    upload = await client.uploads.create(files[0])
    assert upload.sha256 == done.artifacts[0].sha256
    with pytest.raises(ResourceNotFound):
        await client.artifacts.read(f"{job.id}-1-9")


def blocking_story(url: str, folder: Path) -> None:
    with Client(url) as client:
        job = client.jobs.create(prompt="a blue circle", images=2, **SMALL)
        assert [event.name for event in job.events()][-1] == "succeeded"
        done = job.wait(SECONDS)
        assert [file.read_bytes() for file in job.download(folder)] == [
            client.artifacts.read(each) for each in done.artifacts
        ]
        assert next(client.jobs.list()).job_id
        with ThreadPoolExecutor(4) as threads:
            made = list(threads.map(lambda seed: client.jobs.create(prompt="t", seed=seed, **SMALL), range(4)))
            assert [each.request.seed for each in threads.map(lambda each: each.wait(SECONDS), made)] == [0, 1, 2, 3]
        assert client.me().authentication == "none"
        assert [each.descriptor.model_id for each in client.models.list()] == ["synthetic"]


async def test_the_same_without_asyncio_and_from_several_threads(url: str, tmp_path: Path) -> None:
    await asyncio.to_thread(blocking_story, url, tmp_path)


async def test_one_async_client_serves_several_event_loops(client: AsyncClient) -> None:
    tenant = (await client.me()).tenant
    assert await asyncio.to_thread(lambda: asyncio.run(client.me()).tenant) == tenant
    assert (await client.me()).tenant == tenant


async def test_a_stream_that_is_cut_again_and_again_has_no_gap_and_no_repeat(url: str, client: AsyncClient) -> None:
    job = await client.jobs.create(prompt="cut", images=2, **SMALL)
    live = [(event.name, event.sequence) async for event in job.events()]
    # Read again from its start: live, a step and the fact that follows it come from two logs, in either order.
    read = [event async for event in client.jobs.watch(job.id)]
    assert sorted((event.name, event.sequence) for event in read) == sorted(live)
    whole = [event.id for event in read]
    retries = Retries(first_pause_seconds=0.01)
    async with cutting_proxy(url) as proxy, AsyncClient(proxy.url, retries=retries) as behind:
        proxy.cuts = [700, 1500, 900, 1300]
        assert [event.id async for event in behind.jobs.watch(job.id)] == whole
        assert "last-event-id" in proxy.heads[-1].lower()
        proxy.cuts = [900, 1500]
        await asyncio.to_thread(_watched_blocking, proxy.url, job.id, whole)


async def test_all_jobs_are_told_on_one_stream_that_may_be_cut(url: str, client: AsyncClient) -> None:
    before = await client.jobs.create(prompt="before", **SMALL)
    last_id = [event.id async for event in before.events()][-1]
    jobs = [await client.jobs.create(prompt="told", seed=seed, **SMALL) for seed in range(3)]
    expected = {(job.id, name) for job in jobs for name in ("requested", "succeeded")}
    async with cutting_proxy(url) as proxy, AsyncClient(proxy.url, retries=Retries(first_pause_seconds=0.01)) as behind:
        proxy.cuts = [300, 900, 1500]
        told = behind.jobs.watch_all(only=("requested", "succeeded"), last_id=last_id, timeout=SECONDS)
        async with aclosing(told):
            seen = [await anext(told) for _ in expected]
    assert {(event.job_id, event.name) for event in seen} == expected
    sequences = [event.sequence for event in seen]
    assert sequences == sorted(sequences)


def _watched_blocking(url: str, job_id: str, expected: list[str]) -> None:
    with Client(url, retries=Retries(first_pause_seconds=0.01)) as client:
        assert [event.id for event in client.jobs.watch(job_id)] == expected


async def test_a_download_that_is_cut_goes_on_where_it_was(url: str, client: AsyncClient, tmp_path: Path) -> None:
    done = await (await client.jobs.create(prompt="large", width_px=512, height_px=512, **SMALL)).wait(SECONDS)
    artifact = done.artifacts[0]
    retries = Retries(tries=2, first_pause_seconds=0.01)
    async with cutting_proxy(url) as proxy, AsyncClient(proxy.url, retries=retries) as behind:
        proxy.cuts = [artifact.size_bytes // 3] * 2
        file = await behind.artifacts.download(artifact, tmp_path / "a.png")
        assert hashlib.sha256(file.read_bytes()).hexdigest() == artifact.sha256
        assert "range: bytes=" in proxy.heads[1].lower()
    assert names_in(tmp_path) == ["a.png"]


async def test_a_part_that_is_damaged_is_fetched_anew(client: AsyncClient, tmp_path: Path) -> None:
    done = await (await client.jobs.create(prompt="part", **SMALL)).wait(SECONDS)
    artifact = done.artifacts[0]
    (tmp_path / f"a.png.{artifact.sha256[:12]}.part").write_bytes(b"x" * 10)
    file = await client.artifacts.download(artifact, tmp_path / "a.png")
    assert hashlib.sha256(file.read_bytes()).hexdigest() == artifact.sha256


async def test_a_wait_outlives_a_gateway_that_is_killed(stack: LiveStack, url: str) -> None:
    patient = Retries(tries=100, last_pause_seconds=0.5)  # other tests may use the processors too
    async with AsyncClient(url, retries=patient) as client:
        job = await client.jobs.create(prompt="restart", model_id="synthetic", steps=60, images=2)
        events = job.events()
        assert (await anext(events)).name == "requested"
        waiting = asyncio.create_task(job.wait(SECONDS))
        await stack.kill_and_start_again("gateway")
        assert (await waiting).status is Status.SUCCEEDED
        assert [event.name async for event in events][-1] == "succeeded"


async def test_the_command_watches_all_jobs_over_a_restart_of_the_gateway_until_ctrl_c(
    stack: LiveStack, url: str, tmp_path: Path
) -> None:
    async with AsyncClient(url, retries=Retries(tries=100, last_pause_seconds=0.5)) as client:
        before = await client.jobs.create(prompt="before", **SMALL)
        first_id = (await anext(before.events())).id
        only = ("--only", "requested,succeeded", "--json")
        watching = await command(url, tmp_path, "jobs", "watch-all", *only, "--after", first_id)
        assert await line_of(watching) == (before.id, "succeeded")
        await stack.kill_and_start_again("gateway")
        after = await client.jobs.create(prompt="after", **SMALL)
        assert [await line_of(watching) for _ in range(2)] == [(after.id, "requested"), (after.id, "succeeded")]
        last_id = [event.id async for event in after.events()][-1]
    watching.send_signal(signal.SIGINT)
    rest, said = await asyncio.wait_for(watching.communicate(), SECONDS)
    assert (watching.returncode, rest) == (130, b"")
    facts = last_id.partition("-")[0]
    assert re.search(rf"jobs watch-all --after {facts}-[0-9a-f-]+ {' '.join(only)}", said.decode()), said


async def command(url: str, folder: Path, *words: str) -> asyncio.subprocess.Process:
    """`dreamforge` as a process beside the running system."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "dreamforge.cli", *words),
        cwd=folder,
        env={**os.environ, "FORGE_GATEWAY_URL": url, "NO_COLOR": "1"},
        # Where the tests are a shell's background job, SIGINT is ignored, and a child would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


async def line_of(watching: asyncio.subprocess.Process) -> tuple[str, str]:
    """Job and name of the next event that it shows."""
    assert watching.stdout is not None
    shown = json.loads(await asyncio.wait_for(watching.stdout.readline(), SECONDS))
    return shown["data"]["job_id"], shown["event"]


async def test_a_wait_ends_at_its_time_and_the_job_goes_on(client: AsyncClient) -> None:
    job = await client.jobs.create(prompt="slow", priority=0, model_id="synthetic", steps=100, images=4)
    fresh = Deadline.after(10)
    with pytest.raises(WaitTimeout, match=r"has not ended within 0\.5 s"):
        await job.wait(timeout=0.5)
    assert 8 < fresh.left_seconds() < 9.6
    await job.cancel()
    assert (await job.wait(SECONDS, check=False)).status is Status.CANCELLED
    with pytest.raises(JobNotSucceeded, match="was cancelled"):
        await job.wait(SECONDS)


async def test_a_refusal_says_what_is_wrong_and_where(client: AsyncClient) -> None:
    with pytest.raises(RequestRefused) as refused:
        await client.jobs.create(prompt="x", steps=0, upscale=UpscaleInput(factor=2), colour="red")  # type: ignore[call-arg]
    assert {each.pointer for each in refused.value.places} == {"/steps", "/colour"}
    assert (refused.value.status, refused.value.code) == (422, "invalid_request")
    assert any("422 invalid_request" in note for note in refused.value.__notes__)


async def test_a_quota_that_is_used_up_is_an_error_with_its_numbers(client: AsyncClient, url: str) -> None:
    await client.write("PATCH", "/v1/tenants/small", {"open_jobs": 0})
    async with AsyncClient(url, tenant="small", retries=Retries(limit_wait_seconds=0)) as small:
        with pytest.raises(LimitExceeded) as refused:
            await small.jobs.create(prompt="x", **SMALL)
    assert (refused.value.code, refused.value.document["limit"]) == ("quota_exceeded", 0)
    assert refused.value.retry_after_seconds


async def test_a_batch_from_its_grid_to_its_zip_file(client: AsyncClient, tmp_path: Path) -> None:
    batch = await client.batches.create(request={"prompt": "a grid", **SMALL}, grid={"seed": [1, 2]})
    ended = [event async for event in batch.events() if event.name == "succeeded"]
    assert len(ended) == 2
    done = await batch.wait(SECONDS)
    assert [each.values for each in done.members] == [{"seed": 1}, {"seed": 2}]
    with ZipFile(await batch.download(tmp_path / "grid.zip")) as found:
        assert sorted(found.namelist()) == ["0-0-seed-1.png", "1-0-seed-2.png", "batch.json"]
    assert batch.id in [each.batch_id async for each in client.batches.list()]


async def test_the_document_shows_what_works(url: str, tmp_path: Path) -> None:
    await asyncio.to_thread(run_examples, url, tmp_path)


def run_examples(url: str, folder: Path) -> None:
    examples = snippets("Python")
    assert len(examples) == 2
    printed = []
    for code in examples:
        here = code.replace("http://127.0.0.1:8080", url)
        shown = subprocess.run([sys.executable, "-c", here], cwd=folder, capture_output=True, text=True, check=False)
        assert shown.returncode == 0, shown.stderr
        printed.append(shown.stdout)
    assert "succeeded" in printed[0]
    assert len(list((folder / "out").glob("a-lighthouse-at-dawn-*.png"))) == 2
    assert re.fullmatch(r"[0-9a-f]{64}\n", printed[1])
