"""Every program of docs/clients.md is run as it stands there: here, or where its interface is tested."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from system_testkit.documents import CLIENTS, headings, section, snippets
from system_testkit.live_stack import LiveStack

ROOT = CLIENTS.parents[1]
HERE = {"OpenAI's image API", "Agents (MCP)", "Pictures of other programs"}
ELSEWHERE = {
    "A1111": "tests/clients/test_a1111.py",
    "ComfyUI": "tests/clients/test_comfyui_v2.py",
    "Python": "client/tests/integration/test_whole_client.py",
    "Open WebUI": "tests/clients/test_open_webui.py",
    "Webhooks": "tests/clients/test_webhooks.py",
}
LINES_MAX = 10


def test_every_program_is_run_by_a_test_and_is_short() -> None:
    assert {each for each in headings() if "```" in section(each)} == HERE | set(ELSEWHERE)
    for heading, file in ELSEWHERE.items():
        assert f'snippets("{heading}"' in (ROOT / file).read_text(), heading
    for heading in headings():
        for program in snippets(heading):
            assert len([line for line in program.splitlines() if line]) <= LINES_MAX, heading


def output_of(program: str, gateway_url: str, folder: Path, *interpreter: str) -> str:
    here = program.replace("http://127.0.0.1:8080", gateway_url)
    ended = subprocess.run([*interpreter, "-c", here], cwd=folder, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_images_by_the_client_of_openai(gateway_url: str, tmp_path: Path) -> None:
    (program,) = snippets("OpenAI's image API")
    output_of(program, gateway_url, tmp_path, sys.executable)
    assert Image.open(tmp_path / "lighthouse.png").format == "PNG"


def test_an_agent_calls_a_tool(gateway_url: str, tmp_path: Path) -> None:
    (program,) = snippets("Agents (MCP)")
    assert "'status': 'succeeded'" in output_of(program, gateway_url, tmp_path, sys.executable)


@pytest.mark.parametrize("program", snippets("Pictures of other programs", "sh"))
async def test_a_picture_is_imported(stack: LiveStack, gateway_url: str, tmp_path: Path, program: str) -> None:
    job = await stack.finished(await stack.submit(model_id=None, prompt="a fox"))
    image = await stack.request("GET", f"/v1/artifacts/{job['artifacts'][0]['artifact_id']}")
    (tmp_path / "picture.png").write_bytes(image.content)
    found = json.loads(output_of(program, gateway_url, tmp_path, "bash"))
    assert found["request"]["prompt"] == "a fox"
