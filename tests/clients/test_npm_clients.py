"""Packages of npm, unmodified: the image API of OpenAI, verification of webhooks, types of the OpenAPI document."""

import base64
import io
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from standardwebhooks import Webhook

from dreamforge.runtime import clock

pytestmark = [
    pytest.mark.skipif(shutil.which("npm") is None, reason="there is no npm"),
    pytest.mark.timeout(240),
]
HERE = Path(__file__).parent
OPENAPI = HERE.parents[1] / "docs" / "openapi"
PACKAGES = (
    "openai@6.49.0",
    "ai@6.0.326",
    "@ai-sdk/openai-compatible@2.0.92",
    "standardwebhooks@1.1.1",
    "openapi-typescript@7.13.0",
    "typescript@5.9.3",
)


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packages and our scripts in it."""
    folder = tmp_path_factory.mktemp("npm")
    install = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", *PACKAGES]
    subprocess.run(install, cwd=folder, check=True, capture_output=True, timeout=180)
    for name in ("openai_images.mjs", "verify_webhook.mjs", "job_types.ts"):
        shutil.copy(HERE / name, folder)
    return folder


def output_of(packages: Path, *command: str) -> str:
    ended = subprocess.run(command, cwd=packages, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def size_of(data: str) -> tuple[int, int]:
    return Image.open(io.BytesIO(base64.b64decode(data))).size


def test_images_by_openai_and_by_the_ai_sdk(packages: Path, gateway_url: str) -> None:
    found: dict[str, Any] = json.loads(output_of(packages, "node", "openai_images.mjs", gateway_url))
    assert [size_of(each) for each in found["openai"]] == [(64, 64)] * 2
    assert size_of(found["ai_sdk"]) == (64, 64)
    assert found["events"][-1] == "image_generation.completed"
    assert found["refused"] == {"status": 422, "code": "model_not_found"}


def test_a_delivery_is_verified(packages: Path) -> None:
    """The two libraries agree on a signature; that ours verifies by the one of PyPI is shown in the gateway's tests."""
    secret = "whsec_" + base64.b64encode(b"s" * 32).decode()
    now, body = clock.now(), '{"type":"job.succeeded"}'
    headers = {
        "webhook-id": "delivery-1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign("delivery-1", now, body),
    }
    found = output_of(packages, "node", "verify_webhook.mjs", secret, json.dumps(headers), body)
    assert json.loads(found) == json.loads(body)


def test_types_are_those_of_the_document_and_compile(packages: Path) -> None:
    options = ["--default-non-nullable=false", "-o", "openapi.d.ts"]  # what has a default may be left out
    output_of(packages, "npx", "openapi-typescript", str(OPENAPI / "openapi.json"), *options)
    fresh = (packages / "openapi.d.ts").read_text()
    assert fresh == (OPENAPI / "openapi.d.ts").read_text(), "run `task openapi`"
    output_of(packages, "npx", "tsc", "--noEmit", "--strict", "job_types.ts")
