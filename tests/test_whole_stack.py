"""The whole of Dream Forge as a user runs it: the command itself, in an empty folder, end to end."""

import hashlib
import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from runner_testkit.png import read_recipe
from system_testkit.command_stack import CommandStack

from dreamforge.cli.stack_record import read_record
from dreamforge.runtime.embedded.ports import free_port
from dreamforge.runtime.embedded.processes import identity
from dreamforge.runtime.testing import eventually
from dreamforge.runtime.testing.otlp_collector import CollectedSpan, OtlpCollector, otlp_collector

pytestmark = [pytest.mark.torch, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stack")


@pytest.fixture(scope="module")
def collector() -> Iterator[OtlpCollector]:
    with otlp_collector() as collector:
        yield collector


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def stopped_stack(folder: Path, port: int, collector: OtlpCollector) -> Iterator[CommandStack]:
    secrets = dict.fromkeys(("FORGE_GATEWAY_SESSION_SECRET", "FORGE_HUB_TOKEN", "STRIPE_SECRET_KEY"), "s" * 32)
    tracing = {"FORGE_TRACES_SAMPLED": "1", "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
    own = {"FORGE_GATEWAY_PORT": str(port), "OTEL_BSP_SCHEDULE_DELAY": "200"}
    stack = CommandStack(folder, {**secrets, **tracing, **own})
    yield stack
    stack.end()


@pytest.fixture
async def stack(stopped_stack: CommandStack) -> CommandStack:
    """The stack of these tests, up."""
    if read_record(stopped_stack.folder / ".forge") is None:
        await stopped_stack.up()
    return stopped_stack


def test_a_prompt_becomes_an_image_with_its_recipe(stack: CommandStack) -> None:
    prompt = "a red circle on a blue ground"
    done = stack.json("generate", prompt, "--seed", "7", "--steps", "5", "--images", "2", "--output", "pictures")
    job, files = done["job"], [stack.folder / name for name in done["files"]]
    assert job["status"] == "succeeded"
    assert len(files) == 2
    for index, (file, artifact) in enumerate(zip(files, job["artifacts"], strict=True)):
        data = file.read_bytes()
        assert hashlib.sha256(data).hexdigest() == artifact["sha256"]
        recipe = read_recipe(data)
        assert (recipe.prompt, recipe.seed) == (prompt, 7 + index)
    imported = stack.json("import", str(files[0]))
    assert (imported["tool"], imported["unmapped"]) == ("Dream Forge", [])
    assert imported["request"].items() >= {"prompt": prompt, "seed": 7, "steps": 5, "model_id": recipe.model_id}.items()


async def test_one_trace_has_a_job_from_the_clients_request_to_the_upload(
    stack: CommandStack, collector: OtlpCollector
) -> None:
    """As a backend of OpenTelemetry sees it: the spans that arrived by OTLP, with the client's own at the top."""
    trace_id, client_span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    body = {"prompt": "a secret fox", "steps": 3, "images": 2, "width_px": 64, "height_px": 64}
    headers = {"Content-Type": "application/json", "traceparent": f"00-{trace_id}-{client_span}-01"}
    job_id = stack.post("/v1/jobs", body, headers)["job_id"]

    def whole() -> list[CollectedSpan] | None:
        found = collector.trace(trace_id)
        ends_last = {"POST /v1/jobs", "schedule job", "process JOBS"}  # in each of the three processes
        return found if ends_last <= {span.name for span in found} else None

    spans = await eventually(whole, 60)
    by_id = {span.span_id: span for span in spans}
    (top,) = (span for span in spans if span.parent_id == client_span)
    assert (top.service, top.name, top.kind) == ("gateway", "POST /v1/jobs", "server")
    assert top.attributes["http.response.status_code"] == 202
    assert {span.parent_id for span in spans} - by_id.keys() == {client_span}  # connected: no parent is missing
    edges = Counter((by_id[span.parent_id].name, span.service, span.name) for span in spans if span is not top)
    attempt = ("process JOBS", "gpu-runner")
    assert edges >= Counter({
        ("POST /v1/jobs", "gateway", "publish JOBS"): 1,
        ("POST /v1/jobs", "scheduler", "schedule job"): 1,
        ("schedule job", "scheduler", "publish JOBS"): 1,
        ("POST /v1/jobs", "gpu-runner", "process JOBS"): 1,
        (*attempt, "generate_content tiny"): 1,
        (*attempt, "encode image"): 2,
        (*attempt, "upload image"): 2,
        (*attempt, "publish JOBS"): 2,
    })  # fmt: skip
    (render,) = (span for span in spans if span.name.startswith("generate_content"))
    assert render.attributes["gen_ai.request.choice.count"] == 2
    assert render.attributes["dreamforge.render.steps"] == 3
    assert all(by_id[span.parent_id].began_ns <= span.began_ns <= span.ended_ns for span in spans if span is not top)
    assert {span.attributes["dreamforge.job.id"] for span in spans if span.name == "process JOBS"} == {job_id}
    assert not [span for span in spans if "secret" in str(span)]


def test_an_image_is_rendered_again_to_the_byte(stack: CommandStack) -> None:
    job = stack.json("generate", "a lighthouse", "--seed", "3", "--steps", "4", "--images", "2")["job"]
    first, second = (artifact["artifact_id"] for artifact in job["artifacts"])
    found = stack.json("rerun", second)
    assert (found["same_bytes"], found["differing_pixels"], found["changes"]) == (True, 0, [])
    assert "identical" in stack.run("rerun", first).stdout
    nowhere = stack.run("rerun", first[:-1] + "7")
    assert nowhere.returncode == 2
    assert first in nowhere.stderr


def test_the_log_has_every_event_in_order(stack: CommandStack) -> None:
    job_id = stack.json("generate", "a green square", "--steps", "4")["job"]["job_id"]
    events = stack.json("events", "replay", "--job", job_id)
    kinds = [event["type"].split(".", 1)[1].rsplit(".", 1)[0] for event in events]
    facts = [kind for kind in kinds if kind != "step.progressed"]
    assert facts == ["job.requested", "job.assigned", "job.started", "job.artifact-stored", "job.succeeded"]
    assert [event["event"]["step"] for event in events if event["type"].startswith("dreamforge.step")] == [1, 2, 3, 4]
    times = [event["event"]["at"] for event in events]
    assert all(earlier <= later for earlier, later in pairwise(times))
    text = stack.run("events", "replay", "--job", job_id).stdout
    assert "step 4 of 4" in text
    assert '"a green square"' in text


def test_a_job_submitted_without_waiting_is_watched_to_its_end(stack: CommandStack) -> None:
    job_id = stack.run("generate", "a fox", "--no-wait").stdout.strip()
    watched = stack.run("jobs", "watch", job_id)
    assert watched.returncode == 0, watched.stderr
    assert Path(stack.folder / watched.stdout.strip()).read_bytes().startswith(b"\x89PNG")
    again = [json.loads(line)["event"] for line in stack.run("jobs", "watch", job_id, "--json").stdout.splitlines()]
    assert (again[0], again[-1]) == ("requested", "succeeded")
    assert job_id in stack.run("jobs", "list").stdout
    assert "attempt 1" in stack.run("jobs", "show", job_id).stdout
    assert stack.run("jobs", "why", job_id).returncode == 0


async def test_an_interrupted_watch_leaves_the_job_which_can_be_cancelled(stack: CommandStack) -> None:
    watching = stack.start("generate", "a long events", "--size", "256x256", "--steps", "150", "--images", "16")
    assert watching.stderr is not None
    lines = iter(watching.stderr.readline, "")
    assert any(line.startswith("running") for line in lines)
    watching.send_signal(signal.SIGINT)
    _, rest = watching.communicate(timeout=20)
    assert watching.returncode == 130
    job_id = rest.partition("jobs watch ")[2].split()[0]
    assert stack.json("jobs", "show", job_id)["status"] == "running"
    assert stack.run("jobs", "cancel", job_id).returncode == 0
    ended = stack.run("jobs", "watch", job_id)
    assert ended.returncode == 4
    assert "cancelled" in ended.stderr


async def test_models_and_runners_are_listed(stack: CommandStack) -> None:
    assert stack.json("models", "list")["models"][0]["descriptor"]["model_id"] == "tiny"
    (runner,) = stack.json("runners", "list")["runners"]
    assert (runner["runner_id"], runner["status"], runner["renderer"]) == ("local", "online", "diffusers")
    assert set((await heartbeat_of(stack))["quantisations"]) == {"int8", "float8"}
    # On a busy machine one answer may come late once; that is said, and is over with the next.
    readiness = await eventually(stack.when_ready, 30)
    assert set(readiness) == {"gateway", "scheduler", "gpu-runner", "projector"}


async def heartbeat_of(stack: CommandStack) -> dict[str, Any]:  # JSON
    """The latest of the one runner, once it has one that is no older than its lease."""

    def latest() -> Any:
        (runner,) = stack.json("runners", "list")["runners"]
        return runner["heartbeat"] if runner["status"] == "online" else None

    found: dict[str, Any] = await eventually(latest, 30)
    return found


async def test_a_job_in_eight_bits_is_rendered_by_a_runner_that_can_and_refused_with_the_reason_of_one_that_cannot(
    stack: CommandStack,
) -> None:
    ways = (await heartbeat_of(stack))["quantisations"]
    for way, why in ways.items():
        found = stack.run("generate", f"a fox in {way}", "--steps", "2", "--quantisation", way, "--output", "eight-bit")
        assert found.returncode == (2 if why else 0), found.stderr
        if why:
            assert why in " ".join(found.stderr.split())
        else:
            (image,) = (stack.folder / "eight-bit").iterdir()
            assert read_recipe(image.read_bytes()).model_dump()["quantisation"] == way


def test_an_unsupported_size_is_refused_with_the_bounds(stack: CommandStack) -> None:
    refused = stack.run("generate", "a fox", "--size", "9000x64")
    assert refused.returncode == 2
    assert "width_px is 9000, but must lie between 32 and 256" in refused.stderr
    unknown = stack.run("jobs", "show", "01a20638-499f-7288-a6c2-5e668ec21e03")
    assert unknown.returncode == 2
    assert "there is no job" in unknown.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="the environment of a service is for root alone")
def test_a_process_starts_with_its_own_settings_and_secrets_only(stack: CommandStack) -> None:
    secrets = {"FORGE_DATABASE_URL", "FORGE_S3_SECRET_KEY", "FORGE_GATEWAY_SESSION_SECRET", "FORGE_HUB_TOKEN"}
    expected = {
        "gateway": {"FORGE_GATEWAY_SESSION_SECRET"},
        "scheduler": set(),
        "gpu-runner": set(),
        "projector": set(),
    }
    for service, own in expected.items():
        pid = stack.pid_of(service)
        has = environment_of(pid)
        assert secrets & has.keys() == own, service
        assert "STRIPE_SECRET_KEY" not in has
    (renderer,) = children_of(stack.pid_of("gpu-runner"))
    assert not [name for name in environment_of(renderer) if name.startswith("FORGE_")]


def environment_of(pid: int) -> dict[str, str]:
    found = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return dict(each.split("=", 1) for each in found if each)


def children_of(pid: int) -> list[int]:
    return [int(child) for file in Path(f"/proc/{pid}/task").glob("*/children") for child in file.read_text().split()]


def test_what_a_stack_keeps_is_for_its_user_alone(stack: CommandStack) -> None:
    kept = [stack.folder / ".forge", *(stack.folder / ".forge").rglob("*")]
    open_to_others = [path for path in kept if path.lstat().st_mode & 0o077]
    assert not open_to_others


def test_a_second_stack_in_the_folder_is_refused_by_the_pid_of_the_first(stack: CommandStack) -> None:
    second = stack.run("up", FORGE_GATEWAY_PORT=str(free_port()))
    assert second.returncode == 5
    assert f"as process {stack.record.pid}" in second.stderr
    assert stack.record.is_running


def test_a_port_in_use_is_named_with_its_setting(stack: CommandStack, port: int, tmp_path: Path) -> None:
    other = stack.run("up", FORGE_STATE_DIR=str(tmp_path))
    assert other.returncode == 5
    assert f"port {port} is in use" in other.stderr
    assert "FORGE_GATEWAY_PORT" in other.stderr


@pytest.mark.parametrize("victim", ["gateway", "scheduler", "nats"])
async def test_a_killed_process_is_restarted_and_logged(stack: CommandStack, victim: str) -> None:
    killed = stack.pid_of(victim)
    os.kill(killed, signal.SIGKILL)
    await eventually(lambda: victim in {p.name for p in stack.record.processes if p.pid != killed}, 30)
    assert "was killed by signal 9; restarting in 0.5 s" in stack.output_text()
    done = stack.json("generate", f"after {victim}", "--steps", "2")
    assert done["job"]["status"] == "succeeded"


async def test_a_killed_runner_keeps_what_it_has_learnt_and_why_names_it(stack: CommandStack) -> None:
    """How many images of a size go together, of which a runner that knows nothing names none; what they needed, and how
    long their steps took.
    """
    many = ("--size", "64x64", "--steps", "2")
    for images in ("12", "1"):
        stack.json("generate", "what there is to learn", "--images", images, *many)
    kept = stack.folder / ".forge" / "learnt-memory" / "local.json"

    async def learnt() -> Any:  # JSON
        beat = await heartbeat_of(stack)
        return beat["batch_bounds"], beat["memory"]

    def step_seconds() -> dict[str, Any]:  # JSON
        return {shape: known["runs"] for shape, known in json.loads(kept.read_bytes())["shapes"].items()}

    bounds, memory = before = await learnt()
    (shape,) = (shape for shape in bounds if "64" in shape)
    assert memory["peaks"][shape], "an image alone was measured"
    timed = (await heartbeat_of(stack))["times"]["steps"].keys()
    assert timed
    seconds = step_seconds()
    assert seconds[shape]
    killed = stack.pid_of("gpu-runner")
    os.kill(killed, signal.SIGKILL)
    await eventually(lambda: "gpu-runner" in {p.name for p in stack.record.processes if p.pid != killed}, 30)
    await eventually(stack.when_ready, 60)
    assert await learnt() == before
    assert step_seconds() == seconds
    assert (await heartbeat_of(stack))["times"]["steps"].keys() >= timed, "the next job is planned by what was measured"
    job = stack.json("generate", "after it", *many)["job"]
    said = stack.run("jobs", "why", job["job_id"]).stdout
    expected = f"renders up to {bounds[shape]} images of this size together"
    assert (expected in " ".join(said.split())) == (bounds[shape] > 1), said


def test_a_tenant_is_erased_with_its_keys_in_one_command(stack: CommandStack) -> None:
    job_id = stack.json("generate", "to be forgotten", "--steps", "2")["job"]["job_id"]
    key_id = stack.json("keys", "create", "robot", "--tenant", "default")["key_id"]
    erased = stack.json("tenants", "erase", "default", "--yes")
    assert erased["keys"] == 1
    assert erased["jobs"] >= 1
    assert "answered 404" in stack.run("jobs", "show", job_id).stderr
    assert stack.json("jobs", "list")["jobs"] == []
    (status,) = (each["status"] for each in stack.json("keys", "list") if each["key_id"] == key_id)
    assert status.startswith("revoked")


async def test_data_survives_a_restart(stack: CommandStack) -> None:
    job_id = stack.json("generate", "something to remember", "--steps", "2")["job"]["job_id"]
    pids = [process.pid for process in stack.record.processes]
    assert stack.run("down").returncode == 0
    assert stack.wait() == 0
    assert not (stack.folder / ".forge" / "stack.json").exists()
    assert not [pid for pid in pids if identity(pid)]
    assert stack.run("status").returncode == 3
    await stack.up(FORGE_RUNNER_RENDERER="synthetic")  # nothing is rendered any more: torch need not be awaited again
    job = stack.json("jobs", "show", job_id)
    assert job["status"] == "succeeded"
    (artifact,) = job["artifacts"]
    assert hashlib.sha256(stack.fetch(artifact["url"])).hexdigest() == artifact["sha256"]


async def test_a_backup_is_put_back_into_an_empty_folder_and_runs_there(stack: CommandStack, tmp_path: Path) -> None:
    saved = stack.json("backup", str(tmp_path / "copy"))
    jobs = stack.json("jobs", "list")["jobs"]
    newest = stack.json("jobs", "show", jobs[0]["job_id"])
    assert newest["artifacts"]
    (folder := tmp_path / "other").mkdir()
    other = CommandStack(folder, {"FORGE_GATEWAY_PORT": str(free_port())})
    try:
        restored = other.json("restore", str(tmp_path / "copy"))
        assert (restored["events"], restored["stored"]) == (saved["events"], saved["objects"])
        await other.up(FORGE_RUNNER_RENDERER="synthetic", FORGE_RUNNERS="2", FORGE_RUNNER_STEP_DELAY_SECONDS="0.05")
        assert other.json("jobs", "list")["jobs"] == jobs
        assert other.json("jobs", "show", jobs[0]["job_id"]) == newest
        for artifact in newest["artifacts"]:
            assert hashlib.sha256(other.fetch(artifact["url"])).hexdigest() == artifact["sha256"]
        assert other.json("projection", "verify")["equal"]
        assert other.json("generate", "and it goes on", "--model", "synthetic")["job"]["status"] == "succeeded"
        await two_runners_share_a_batch(other)
        assert other.run("down").returncode == 0
    finally:
        other.end()


async def two_runners_share_a_batch(stack: CommandStack) -> None:
    """One `up` has started both, each with a child of its own; jobs that come at once are rendered at the same time."""

    def online() -> set[str]:
        runners = stack.json("runners", "list")["runners"]
        return {runner["runner_id"] for runner in runners if runner["status"] == "online"}

    names = await eventually(online, 30, until=lambda found: len(found) == 2)
    assert len({pid for name in ("gpu-runner-1", "gpu-runner-2") for pid in children_of(stack.pid_of(name))}) == 2
    done = stack.json("generate", "two at once", "--model", "synthetic", "--grid", "steps=20,21,22,23")
    members = {member["job_id"] for member in done["batch"]["members"]}
    jobs = [job for job in stack.json("jobs", "list")["jobs"] if job["job_id"] in members]
    assert [job["status"] for job in jobs] == ["succeeded"] * 4
    assert {job["runner_id"] for job in jobs} == names


async def test_no_process_outlives_a_killed_stack(stack: CommandStack) -> None:
    pids = [process.pid for process in stack.record.processes]
    os.kill(stack.record.pid, signal.SIGKILL)
    stack.wait()
    await eventually(lambda: not [pid for pid in pids if identity(pid)], 30)
    await stack.up()
    assert stack.json("generate", "after all", "--steps", "2")["job"]["status"] == "succeeded"
