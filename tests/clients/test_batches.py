"""A batch on the whole system: watched to its end, cancelled in the middle, its images in one zip file."""

import io
import json
import zipfile

import httpx
from httpx_sse import EventSource
from PIL import Image
from system_testkit.live_stack import LiveStack

from dreamforge.contracts.events import TERMINAL_EVENTS

ENDS = {event.TOKEN for event in TERMINAL_EVENTS}


async def test_a_batch_of_six_is_cancelled_after_its_first_job_and_keeps_what_is_finished(stack: LiveStack) -> None:
    body = {
        "request": {"preset": "standard", "seed": 7},
        "template": {"prompt": "a {red|blue} circle"},
        "grid": {"steps": [2, 140, 150]},
    }
    made = (await stack.request("POST", "/v1/batches", json=body)).json()
    ends: dict[str, str] = {}
    async with stack.client.stream("GET", made["links"]["events"], timeout=httpx.Timeout(30, read=120)) as stream:
        async for event in EventSource(stream).aiter_sse():
            if event.event in ENDS:
                if not ends:
                    await stack.request("POST", made["links"]["cancel"])
                ends[event.json()["job_id"]] = event.event
    assert len(ends) == made["jobs"] == 6
    assert set(ends.values()) == {"succeeded", "cancelled"}

    cancelled = (await stack.request("POST", made["links"]["cancel"])).headers["forge-sequence"]
    newest = {"Forge-Min-Sequence": cancelled}
    batch = (await stack.request("GET", made["links"]["self"], headers=newest)).json()
    assert (batch["status"], sum(batch["counts"].values())) == ("cancelled", 6)
    assert {each["job_id"]: each["status"] for each in batch["members"]} == ends
    images = [image for each in batch["members"] for image in each["images"]]
    assert len(images) >= list(ends.values()).count("succeeded")
    data = (await stack.request("GET", made["links"]["images"], headers=newest)).content
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = [name for name in archive.namelist() if name != "batch.json"]
        assert len(names) == len(images)
        assert all("-seed-7" in name for name in names)
        for name in names:
            Image.open(io.BytesIO(archive.read(name))).load()
        assert json.loads(archive.read("batch.json"))["batch_id"] == made["batch_id"]
