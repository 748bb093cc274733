"""The client that everybody has: curl, as the README uses it."""

import json
import subprocess

from dreamforge.runtime.testing import eventually


async def test_a_job_is_submitted_read_and_its_image_downloaded_with_curl(gateway_url: str) -> None:
    job = json.loads(_curl(f"{gateway_url}/v1/jobs", "--json", '{"prompt": "a fox", "steps": 2}'))

    def image() -> str | None:
        found = json.loads(_curl(f"{gateway_url}/v1/jobs/{job['job_id']}"))
        return found["artifacts"][0]["url"] if found["status"] == "succeeded" else None

    url = await eventually(image, 60, until=bool, interval_seconds=0.2)
    assert url is not None
    assert _curl(url if url.startswith("http") else gateway_url + url).startswith(b"\x89PNG")


def _curl(*arguments: str) -> bytes:
    return subprocess.run(
        ["curl", "--silent", "--show-error", "--fail", *arguments], capture_output=True, check=True
    ).stdout
