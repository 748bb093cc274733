"""The command as a process, beside a gateway that answers what a test wants: arguments, texts, terminals, settings."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from typer.testing import CliRunner

from dreamforge.cli.main import app
from dreamforge.contracts.errors import DependencyAway
from dreamforge.runtime.embedded.ports import free_port

PROMPT = r"a cat \(style\), [/b] :fox_face: " + "\x1b[2J\N{FOX FACE}"
SHOWN = r"a cat \(style\), [/b] :fox_face: \x1b[2J"
IDS = ("01a20638-499f-7288-a6c2-5e668ec21e03", "01a20638-0000-7288-a6c2-5e668ec2ffff")


def job(job_id: str) -> dict[str, Any]:
    request = {"prompt": PROMPT, "model_id": "m", "preset": "p", "width_px": 1, "height_px": 1, "steps": 1, "seed": 1}
    known = {"job_id": job_id, "status": "queued", "request": request, "requested_at": "2026-01-01T00:00:00Z"}
    return known | {"finished_at": None, "failure_reason": None, "attempts": [], "artifacts": []}


class RecordedGateway:
    """A real server with two jobs, the newest first; `asked` has every target that was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        answers = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answers.asked.append(self.path)
                status, body = answers.reply(self.path)
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_POST = do_GET  # noqa: N815 the base class's name

            def log_message(self, format: str, *args: object) -> None:
                return None

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def reply(self, target: str) -> tuple[int, Any]:
        path, query = urlsplit(target).path, dict(parse_qsl(urlsplit(target).query))
        if path == "/v1/jobs":
            return 200, {"jobs": [job(each) for each in IDS][: int(query.get("limit", 2))], "next_cursor": None}
        job_id = path.removeprefix("/v1/jobs/").removesuffix("/why")
        if job_id in IDS:
            return 200, job(job_id)
        detail = "width_px is 9000, but must lie between 32 and 256"
        problem = {"status": 422, "detail": detail, "code": "out_of_bounds", "maximum": 256, "request_id": "r-1"}
        return 422, problem | {"errors": [{"pointer": "/width_px", "detail": detail}]}


@pytest.fixture
def gateway() -> Iterator[RecordedGateway]:
    recorded = RecordedGateway()
    thread = threading.Thread(target=recorded.server.serve_forever, args=(0.02,))
    thread.start()
    yield recorded
    recorded.server.shutdown()
    thread.join()
    recorded.server.server_close()


def run(folder: Path, *arguments: str | bytes, **environment: str) -> "subprocess.CompletedProcess[bytes]":
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FORGE_", "UV"))}
    return subprocess.run(
        [sys.executable, "-m", "dreamforge.cli", *arguments],
        cwd=folder,
        env={**kept, "NO_COLOR": "1", "COLUMNS": "200", **environment},
        capture_output=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_any_prompt_can_be_listed_and_shown(gateway: RecordedGateway, tmp_path: Path, encoding: str) -> None:
    for words in (("jobs", "list"), ("jobs", "show", IDS[0])):
        done = run(tmp_path, *words, FORGE_GATEWAY_URL=gateway.url, PYTHONIOENCODING=encoding)
        assert done.returncode == 0, done.stderr
        fox = "\N{FOX FACE}" if encoding == "utf-8" else r"\U0001f98a"
        assert SHOWN + fox in done.stdout.decode(encoding)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--gateway", "URL", "jobs", "show"), "last"),
        (("jobs", "show", "--gateway", "URL"), "5e668ec21e03"),
        (("jobs", "why", "--gateway", "URL"), "01a20638-499f"),
    ],
)
def test_a_job_is_named_by_a_part_of_its_id_at_a_gateway_that_is_named_anywhere(
    gateway: RecordedGateway, tmp_path: Path, arguments: tuple[str, ...], text: str
) -> None:
    words = [gateway.url if word == "URL" else word for word in arguments]
    done = run(tmp_path, *words, text, "--json", FORGE_GATEWAY_URL="http://127.0.0.1:1")
    assert done.returncode == 0, done.stderr
    assert gateway.asked[-1].removesuffix("/why") == f"/v1/jobs/{IDS[0]}"
    if text == "last":
        assert gateway.asked[0] == "/v1/jobs?limit=1&tenant=default"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("01a20638", "2 jobs have an id"), ("ffffffff", "none of the newest"), ("[/b]", "'[/b]' is not the id of a job")],
)
def test_a_part_that_names_no_job_or_several_is_refused(
    gateway: RecordedGateway, tmp_path: Path, text: str, expected: str
) -> None:
    done = run(tmp_path, "jobs", "cancel", text, FORGE_GATEWAY_URL=gateway.url)
    assert done.returncode == 2
    assert expected in done.stderr.decode()
    assert not any(path.endswith("/cancel") for path in gateway.asked)


def test_an_error_is_said_once_and_without_pointers(gateway: RecordedGateway, tmp_path: Path) -> None:
    done = run(tmp_path, "generate", "a fox", "--no-wait", FORGE_GATEWAY_URL=f"{gateway.url}/other")
    lines = done.stderr.decode().splitlines()
    assert lines[0].split() == [
        "error",
        *["width_px", "is", "9000,", "but", "must", "lie", "between", "32", "and", "256"],
    ]
    assert [line.split()[0] for line in lines[1:]] == ["where", "request_id"]
    assert done.returncode == 2


def test_an_argument_that_is_no_text_is_one_line(gateway: RecordedGateway, tmp_path: Path) -> None:
    done = run(tmp_path, "generate", b"caf\xe9", "--no-wait", FORGE_GATEWAY_URL=gateway.url)
    assert done.returncode == 2
    assert b"is not UTF-8 text" in done.stderr
    assert b"Traceback" not in done.stderr


def test_without_a_stack_it_is_said_how_to_start_one_and_nothing_is_waited_for(tmp_path: Path) -> None:
    done = run(tmp_path, "keys", "list", FORGE_NATS_URL=f"nats://secret@127.0.0.1:{free_port()}")
    said = done.stderr.decode()
    assert done.returncode == 3
    assert "nothing listens at 127.0.0.1:" in said
    assert "start the stack with `dreamforge up`" in said
    assert "secret" not in said


@pytest.mark.parametrize(
    "command",
    [
        *(["audit"], ["events", "replay"], ["events", "tail"], ["streams", "create"], ["keys", "revoke", "k"]),
        *(["models", "remove", "tiny"], ["projection", "status"], ["projection", "verify"]),
    ],
    ids=" ".join,
)
def test_no_command_waits_for_servers_that_refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FORGE_NATS_URL", f"nats://127.0.0.1:{free_port()}")
    monkeypatch.setenv("FORGE_DATABASE_URL", f"postgresql://127.0.0.1:{free_port()}/forge")
    failed = CliRunner().invoke(app, command).exception
    assert isinstance(failed, DependencyAway)
    assert "nothing listens" in failed.reason or "Connection refused" in failed.reason


def test_a_folder_without_an_installation_is_not_backed_up(tmp_path: Path) -> None:
    done = run(tmp_path, "backup", "copy")
    assert done.returncode == 2
    assert "there is no installation in this folder" in done.stderr.decode()
    assert not list(tmp_path.iterdir())


def test_a_wrong_setting_is_one_line(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("FORGE_GATEWAY_URL=localhost:8080\n", encoding="utf-8")
    done = run(tmp_path, "jobs", "list")
    (line,) = done.stderr.decode().splitlines()
    assert done.returncode == 2
    assert line.startswith("error  FORGE_GATEWAY_URL is 'localhost:8080' in ")
    assert "must be http://host:port" in line


def test_up_refuses_a_wrong_setting_of_any_service_before_it_starts_one(tmp_path: Path) -> None:
    done = run(tmp_path, "up", FORGE_RUNNER_THREADS="many", FORGE_SCHEDULER_CANDIDATES_MAX="0")
    said = done.stderr.decode()
    assert done.returncode == 2
    assert "FORGE_RUNNER_THREADS is 'many': " in said
    assert "FORGE_SCHEDULER_CANDIDATES_MAX is '0': " in said
    assert not (tmp_path / ".forge").exists()


def test_version_and_short_help(tmp_path: Path) -> None:
    assert run(tmp_path, "--version").stdout.startswith(b"dreamforge ")
    assert b"--cursor" in run(tmp_path, "jobs", "list", "-h").stdout


def test_every_setting_is_shown_with_its_origin_and_no_secret(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("FORGE_S3_SECRET_KEY=hush\nFORGE_TENANT=a\nFORGE_S3_BUCKET=\n", encoding="utf-8")
    url = "postgresql://forge:hush@db/forge"
    done = run(tmp_path, "env", "--json", FORGE_DATABASE_URL=url, FORGE_TENANT="b", FORGE_GATEWAY_PROT="1")
    assert done.returncode == 0, done.stderr
    assert b"hush" not in done.stdout
    found = {each["name"]: (each["value"], each["origin"]) for each in json.loads(done.stdout)}
    assert found["FORGE_S3_SECRET_KEY"] == ("***", ".env")
    assert found["FORGE_DATABASE_URL"] == ("postgresql://***@db/forge", "environment")
    assert found["FORGE_TENANT"] == ("b", "environment")
    assert found["FORGE_S3_BUCKET"] == ("forge-artifacts", "default")
    assert found["FORGE_RUNNER_THREADS"] == ("1", "default")
    assert b"FORGE_GATEWAY_PROT is not a setting" in done.stderr


def test_a_wrong_setting_is_shown_among_all(tmp_path: Path) -> None:
    done = run(tmp_path, "env", "--settings", FORGE_RUNNER_THREADS="many")
    assert done.returncode == 2
    assert b"FORGE_PROJECTOR_MIGRATE" in done.stdout
    assert b"FORGE_RUNNER_THREADS is 'many'" in done.stderr
