"""The studio's scripts, run by a real engine: what they say of every event, and what they hear of a broken stream."""

import json
import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import quickjs
from hypothesis import given
from hypothesis import strategies as st

from dreamforge.contracts.events import JOB_EVENTS, TERMINAL_EVENTS, JobEvent, StepProgressed
from dreamforge.contracts.jobs.state import Status
from dreamforge.gateway.routes.pages import studio_text

GOLDEN = Path(__file__).parents[3] / "contracts" / "tests" / "unit" / "golden"
KINDS: tuple[type[JobEvent], ...] = (*JOB_EVENTS, StepProgressed)
# What a template says of something that is not there.
SLIPS = re.compile(r"undefined|NaN|null|\[object|Infinity")
# Steps of promises: the longest story that is told here takes some thousand.
JOBS_MAX = 100_000
# As far as `events` uses it: a gateway that tells what it is asked for in pieces, and then breaks or ends.
BROWSER = """
const setTimeout = wake => wake();
class TextDecoderStream {}
async function fetch(path, { headers }) {
  const answer = JSON.parse(gateway(path, JSON.stringify(headers)));
  if (answer.away) throw new TypeError("nobody answers");
  const read = async () => {
    const value = answer.pieces.shift();
    if (value === undefined && answer.breaks) throw new TypeError("the connection broke");
    return { done: value === undefined, value };
  };
  return {
    status: answer.status, ok: answer.status < 300, json: async () => ({ detail: "no" }),
    body: answer.status === 204 ? null : { pipeThrough: () => ({ getReader: () => ({ read }) }) },
  };
}
const heard = [];
let lost = 0, over = false;
async function listen() {
  const place = { last: "" }, signal = { aborted: false };
  for await (const event of events("J", place, signal, () => lost++)) heard.push(event);
  over = true;
}
"""


def scripts(*names: str) -> quickjs.Context:
    """An engine that has read these files, in the order of the page."""
    context = quickjs.Context()
    for name in names:
        context.eval((files("dreamforge.gateway") / "static" / "studio" / name).read_text(encoding="utf-8"))
    return context


def call(context: quickjs.Context, function: str, *arguments: object) -> Any:  # Any: JSON
    """What a function of the page gives; null for undefined."""
    told = json.dumps(json.dumps(arguments))
    return json.loads(context.eval(f"JSON.stringify({function}(...JSON.parse({told})) ?? null)"))


def golden(kind: type[JobEvent]) -> dict[str, Any]:
    """An event as a stream tells it."""
    event: dict[str, Any] = json.loads((GOLDEN / f"{kind.TYPE}.json").read_bytes())
    return {"job_id": "J", "sequence": 1, "type": kind.TYPE, **event}


@pytest.fixture(scope="module")
def words() -> quickjs.Context:
    return scripts("words.js")


def test_the_page_as_a_whole_is_read_without_an_error() -> None:
    script = "\n".join(re.findall(r"<script>(.*?)</script>", studio_text(), re.DOTALL))
    quickjs.Context().eval(f"new Function({json.dumps(script)})")
    with pytest.raises(quickjs.JSException):
        quickjs.Context().eval(f"new Function({json.dumps(script + 'const studio = 1;')})")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.TOKEN)
def test_every_event_has_its_words(words: quickjs.Context, kind: type[JobEvent]) -> None:
    said = call(words, "told", kind.TOKEN, golden(kind))
    assert said not in ("", kind.TOKEN)
    assert not SLIPS.search(said)


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.NONE])
def test_every_state_is_told_with_as_little_as_a_summary_may_hold(words: quickjs.Context, status: Status) -> None:
    job = {"status": status, "attempt": 1, "runner_id": "r1", "failure_reason": "internal", "failure_message": None}
    said = call(words, "stands", job)
    assert re.fullmatch(r".+\.", said), said
    assert not SLIPS.search(said)


def test_a_request_is_told_in_facts(words: quickjs.Context) -> None:
    request = golden(JOB_EVENTS[0])["request"]
    said = call(words, "facts", request)
    assert f"{request['width_px']}×{request['height_px']}" in said
    assert not SLIPS.search(said)
    assert call(words, "facts", {"model_id": "m"}) == "m"


def test_what_came_out_otherwise_is_told_with_what_changed(words: quickjs.Context) -> None:
    before = [{"sha256": "a", "recipe": {"versions": {"torch": "1"}}}, {"sha256": "b", "recipe": {}}]
    assert call(words, "compared", before, before) == "The same again, bit for bit: 2 pictures."
    after = [{"sha256": "x", "recipe": {"versions": {"torch": "2"}}}, before[1]]
    assert call(words, "compared", before, after) == (
        "1 of 2 pictures came out otherwise; the recipe changed: versions torch: 1, now 2."
    )


def test_an_enlarged_picture_is_asked_for_again_by_its_factor() -> None:
    wish = scripts("wish.js")
    upscale = {"width_px": 96, "height_px": 152, "strength": 0.5}
    asked = call(wish, "factored", {"width_px": 64, "upscale": upscale | {"factor": 1.55}})
    assert asked == {"factor": 1.55, "strength": 0.5}
    assert call(wish, "factored", {"width_px": 64, "upscale": upscale})["factor"] == 1.5
    assert call(wish, "factored", {"width_px": 64}) is None


class Teller:
    """A gateway that tells one job's events after the last id it is given, as badly as `trouble` says.

    Each answer's trouble: how many events it tells, where it cuts them into pieces, and how it ends.
    """

    def __init__(self, count: int, trouble: list[tuple[int, int, str]]) -> None:
        names = ["requested", *["step"] * (count - 2), TERMINAL_EVENTS[0].TOKEN]
        self.frames = [f'id: {n}-0\nevent: {name}\ndata: {{"n": {n}}}\n\n' for n, name in enumerate(names, 1)]
        self.trouble = trouble

    def answer(self, path: str, headers: str) -> str:
        """One answer, as JSON."""
        assert path == "/v1/jobs/J/events"
        last = int(json.loads(headers).get("Last-Event-ID", "0-0").split("-")[0])
        count, size, end = self.trouble.pop(0) if self.trouble else (len(self.frames), 1000, "ends")
        if end in ("away", "503"):
            return json.dumps({"away": end == "away", "status": 503, "pieces": []})
        text = ": still here\n\n" + "".join(self.frames[last : last + count])
        if end == "half":
            text += "id: 99-0\nevent: st"
        pieces = [text[at : at + size] for at in range(0, len(text), size)]
        return json.dumps({"status": 200, "pieces": pieces, "breaks": end == "breaks"})


def listened(gateway: Callable[[str, str], str]) -> quickjs.Context:
    """The page's listener, once it has nothing left to do."""
    context = scripts("gateway.js")
    context.add_callable("gateway", gateway)
    context.eval(BROWSER)
    context.eval("listen()")
    for _ in range(JOBS_MAX):
        if not context.execute_pending_job():
            return context
    raise AssertionError("it asks again and again")


ENDS = st.sampled_from(["ends", "breaks", "half", "away", "503"])


@given(st.integers(2, 12), st.lists(st.tuples(st.integers(0, 5), st.integers(1, 50), ENDS)))
def test_however_a_stream_breaks_each_event_is_heard_once(count: int, trouble: list[tuple[int, int, str]]) -> None:
    teller = Teller(count, trouble)
    context = listened(teller.answer)
    assert context.eval("over")
    heard = json.loads(context.eval("JSON.stringify(heard)"))
    assert [each["data"]["n"] for each in heard] == list(range(1, count + 1))
    assert [each["name"] for each in heard] == [frame.split("\n")[1].removeprefix("event: ") for frame in teller.frames]


@pytest.mark.parametrize("status", [204, 404])
def test_whoever_has_seen_the_end_or_asks_for_nothing_does_not_come_back(status: int) -> None:
    asked: list[str] = []

    def answer(path: str, _headers: str) -> str:
        asked.append(path)
        return json.dumps({"status": status, "pieces": []})

    context = listened(answer)
    assert (context.eval("over"), context.eval("lost"), len(asked)) == (True, 0, 1)
