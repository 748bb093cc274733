"""The studio's scripts, run by a JavaScript engine: texts, the form, and how they read a broken stream."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import quickjs
from hypothesis import given
from hypothesis import strategies as st

from dreamforge.contracts.events import JOB_EVENTS, TERMINAL_EVENTS, JobEvent, StepProgressed
from dreamforge.contracts.jobs.course import Status, status_table
from dreamforge.contracts.models.descriptor import ModelDescriptor, Parameters, Preset, VramProfile
from dreamforge.contracts.request.limits import Limits
from dreamforge.contracts.request.parameters import PARAMETERS
from dreamforge.contracts.request.schema import request_schema
from dreamforge.gateway.app import api
from dreamforge.gateway.routes.pages import studio_file, studio_text

GOLDEN = Path(__file__).parents[3] / "contracts" / "tests" / "unit" / "golden"
DECLARED = {each.name for each in PARAMETERS}
KINDS: tuple[type[JobEvent], ...] = (*JOB_EVENTS, StepProgressed)
# What a template prints for a value that is missing.
MISSING_VALUE = re.compile(r"undefined|NaN|null|\[object|Infinity")
# Steps of promises: the longest stream that is read here takes some thousand.
JOBS_MAX = 100_000
# As far as `events` uses it: a gateway that sends a stream in pieces, and then breaks or ends.
BROWSER = """
const setTimeout = wake => wake();
class TextDecoderStream {}
async function fetch(path, { headers }) {
  const answer = JSON.parse(gateway(path, JSON.stringify(headers)));
  if (answer.unavailable) throw new TypeError("no response");
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
const received = [];
let lost = 0, over = false;
async function follow() {
  const place = { last: "" }, signal = { aborted: false };
  for await (const event of events("v1/jobs/J/events", place, signal, () => lost++)) {
    received.push(event);
    if (TERMINAL.includes(event.name)) break;
  }
  over = true;
}
"""


def scripts(*names: str) -> quickjs.Context:
    """An engine that has read these files, in the order of the page."""
    context = quickjs.Context()
    for name in names:
        context.eval(studio_file(name))
    return context


def call(context: quickjs.Context, function: str, *arguments: object) -> Any:  # Any: JSON
    """What a function of the page gives; null for undefined."""
    encoded = json.dumps(json.dumps(arguments))
    return json.loads(context.eval(f"JSON.stringify({function}(...JSON.parse({encoded})) ?? null)"))


def golden(kind: type[JobEvent]) -> dict[str, Any]:
    """An event as a stream sends it."""
    event: dict[str, Any] = json.loads((GOLDEN / f"{kind.TYPE}.json").read_bytes())
    return {"job_id": "J", "sequence": 1, "type": kind.TYPE, **event}


@pytest.fixture(scope="module")
def messages() -> quickjs.Context:
    return scripts("messages.js")


def test_the_page_as_a_whole_has_no_syntax_error() -> None:
    script = "\n".join(re.findall(r"<script>(.*?)</script>", studio_text(), re.DOTALL))
    quickjs.Context().eval(f"new Function({json.dumps(script)})")
    with pytest.raises(quickjs.JSException):
        quickjs.Context().eval(f"new Function({json.dumps(script + 'const studio = 1;')})")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.TOKEN)
def test_every_event_has_a_text(messages: quickjs.Context, kind: type[JobEvent]) -> None:
    text = call(messages, "describeEvent", kind.TOKEN, golden(kind))
    assert text not in ("", kind.TOKEN)
    assert not MISSING_VALUE.search(text)


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.NONE])
def test_every_status_is_described_with_as_little_as_a_summary_may_hold(
    messages: quickjs.Context, status: Status
) -> None:
    job = {"status": status, "attempt": 1, "runner_id": "r1", "failure_reason": "internal", "failure_message": None}
    text = call(messages, "describeJob", job)
    assert re.fullmatch(r".+\.", text), text
    assert not MISSING_VALUE.search(text)


def test_a_request_is_described_in_one_line(messages: quickjs.Context) -> None:
    request = golden(JOB_EVENTS[0])["request"]
    text = call(messages, "describeRequest", request)
    assert f"{request['width_px']}×{request['height_px']}" in text
    assert not MISSING_VALUE.search(text)
    assert call(messages, "describeRequest", {"model_id": "m"}) == "m"


def test_an_imported_image_is_described_with_what_is_missing(messages: quickjs.Context) -> None:
    model = {"name": "mix", "hash": "abcdef0123", "model_id": None}
    loras = [{"name": "ink", "hash": "", "model_id": "ink"}, {"name": "gone", "hash": "", "model_id": None}]
    left = [{"name": f"V{number}", "value": "x" * 300, "reason": "has no counterpart here"} for number in range(9)]
    told = call(messages, "describeImport", {"tool": "A1111", "model": model, "loras": loras, "unmapped": left})
    assert told[:2] == ["These are the settings of an image of A1111.", "Not here: model mix (abcdef0123), LoRA gone."]
    assert told[2].startswith("Left out: V0 ")
    assert told[2].endswith("; 1 more.")
    plain = call(messages, "describeImport", {"tool": "NovelAI", "model": None, "loras": [], "unmapped": []})
    assert plain == ["These are the settings of an image of NovelAI."]


def test_quotas_are_described_where_they_matter(messages: quickjs.Context) -> None:
    def quota(name: str, limit: int | None, used: int | None, own: bool = False) -> dict[str, object]:
        return {"quota": name, "limit": limit, "used": used, "own": own, "frees_at": None}

    idle = [quota("open_jobs", 50_000, 3), quota("stored_bytes", None, None), quota("uploads", 1, 1, own=True)]
    assert call(messages, "describeQuotas", idle) == ""
    busy = [quota("open_jobs", 3, 3, own=True), quota("pixel_steps_per_hour", 300, 200), quota("streams", 2, 2)]
    assert call(messages, "describeQuotas", busy) == "3 of 3 jobs open · 66 % of the work of an hour"
    assert call(messages, "describeQuotas", [quota("stored_bytes", 0, 0, own=True)]) == "0 % of 0.0 GiB stored"


def test_images_that_differ_are_described_with_what_changed(messages: quickjs.Context) -> None:
    before = [
        {"index": 0, "sha256": "a", "recipe": {"versions": {"torch": "1"}}},
        {"index": 1, "sha256": "b", "recipe": {}},
    ]
    assert call(messages, "describeComparison", before, before) == "The same again, bit for bit: 2 images."
    after = [{"index": 0, "sha256": "x", "recipe": {"versions": {"torch": "2"}}}, before[1]]
    assert call(messages, "describeComparison", before, after) == (
        "1 of 2 images differ; the recipe changed: versions torch: 1, now 2."
    )
    cancelled = [after[1]]  # it had finished the second image only
    assert call(messages, "describeComparison", cancelled, after) == "The same again, bit for bit: 1 image."


def test_an_upscaled_image_is_requested_again_by_its_factor() -> None:
    form = scripts("form_controls.js")
    upscale = {"width_px": 96, "height_px": 152, "strength": 0.5}
    asked = call(form, "requestedUpscale", {"width_px": 64, "upscale": upscale | {"factor": 1.55}})
    assert asked == {"factor": 1.55, "strength": 0.5}
    assert call(form, "requestedUpscale", {"width_px": 64, "upscale": upscale})["factor"] == 1.5
    assert call(form, "requestedUpscale", {"width_px": 64}) is None
    assert call(form, "sameAgain", {"init_image": "a", "resize_mode": "fit"})["resize_mode"] == "fit"
    assert call(form, "sameAgain", {"init_image": "a"})["resize_mode"] == "stretch"
    assert "resize_mode" not in call(form, "sameAgain", {"prompt": "a"})


def model(**parameters: object) -> ModelDescriptor:
    """A pipeline of SDXL's family with these capabilities, or those of its family."""
    preset = Preset(name="standard", width_px=1024, height_px=1024, steps=30, guidance_scale=5.0)
    vram = VramProfile(resident_bytes=0, denoise_bytes_per_latent=0, decode_bytes_per_px=0)
    own = Parameters.model_validate(parameters) if parameters else None
    return ModelDescriptor(
        model_id="m", family="stable-diffusion-xl", digest="0" * 64, vram=vram, presets=(preset,), parameters=own
    )


@pytest.fixture(scope="module")
def form() -> quickjs.Context:
    context = scripts("form_controls.js")
    context.eval("""const assets = kind => [[kind + "-1", "An asset"]];
const sections = (schema, preset) => sectionsOf(schema, preset, assets);
const withoutAssets = (schema, preset) => sectionsOf(schema, preset, () => []);""")
    return context


def controls(sections: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The controls of a form by the place in the request, nested ones as `upscale/factor`."""

    def flat(control: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
        yield prefix + control["name"], control
        for inner in control.get("controls", ()):
            yield from flat(inner, f"{prefix}{control['name']}/")

    return {name: each for section in sections for control in section["controls"] for name, each in flat(control)}


def test_every_parameter_of_a_request_has_a_control(form: quickjs.Context) -> None:
    # No family has all of them.
    video = model(frames_max=81, frames_step=4, step_cache=True, flow_shift=True).model_copy(
        update={"second_transformer": True}
    )
    models = (model(), model(references_max=2), video)
    found: dict[str, dict[str, Any]] = {}
    for each in models:
        found |= controls(call(form, "sections", request_schema(each, Limits())))
    assert found["references"]["most"] == 2
    separate = set(json.loads(form.eval("JSON.stringify(SEPARATE)")))
    assert {each.name for each in PARAMETERS} <= found.keys() | separate
    assert {"upscale/factor", "upscale/strength", "control/image", "control/scale", "control/model_id"} <= found.keys()
    assert all(control["label"] for control in found.values())


def test_what_belongs_to_the_job_has_the_bounds_of_the_api(form: quickjs.Context) -> None:
    schemas = api(Limits()).state.document.read()["components"]["schemas"]
    others = {name: each for name, each in schemas["Submission"]["properties"].items() if name not in DECLARED}
    own = json.loads(form.eval("JSON.stringify(JOB_PARAMETERS)"))
    assert own.keys() == others.keys()
    assert {name: others["priority"][name] for name in ("type", "minimum", "maximum", "default")}.items() <= (
        own["priority"].items()
    )
    (deadlines,) = (each["$ref"].split("/")[-1] for each in others["deadlines"]["anyOf"] if "$ref" in each)
    for name, each in schemas[deadlines]["properties"].items():
        bounds = {key: each["anyOf"][0][key] for key in ("type", "exclusiveMinimum", "maximum")}
        assert bounds.items() <= own["deadlines"]["properties"][name].items()


@pytest.mark.parametrize(
    ("rule", "kind"),
    [
        ({"type": "integer", "minimum": 0, "maximum": 4, "default": 0}, "number"),
        ({"type": "number", "minimum": 0.5}, "number"),
        ({"type": "boolean", "default": False}, "switch"),
        ({"type": "string", "maxLength": 20}, "text"),
        ({"enum": ["a", "b"], "x-widget": "choice"}, "choice"),
    ],
)
def test_a_new_scalar_parameter_needs_no_code(form: quickjs.Context, rule: dict[str, Any], kind: str) -> None:
    schema = request_schema(model(), Limits())
    schema["properties"]["novelty"] = rule | {"title": "Novelty", "description": "New.", "x-group": "rendering"}
    found = call(form, "sections", schema)
    (section,) = (each for each in found if each["name"] == "rendering")
    control = controls([section])["novelty"]
    assert (control["kind"], control["label"], control["help"]) == (kind, "Novelty", "New.")
    if kind == "number":
        assert control["attributes"]["min"] == rule["minimum"]


def test_controls_follow_the_model(form: quickjs.Context) -> None:
    plain = model(modes=("text",), negative_prompt=False, samplers=())
    found = controls(call(form, "sections", request_schema(plain, Limits())))
    absent = {"negative_prompt", "sampler", "init_image", "mask_image", "strength", "loras", "control", "upscale"}
    assert not absent & found.keys()
    whole = controls(call(form, "sections", request_schema(model(), Limits()), {"steps": 12}))
    assert (whole["steps"]["placeholder"], whole["guidance_scale"]["placeholder"]) == ("12", "5")
    assert {name: whole[name]["needs"] for name in ("strength", "mask_image", "init_image")} == {
        "strength": ["init_image"], "mask_image": ["init_image"], "init_image": [],
    }  # fmt: skip
    assert whole["upscale/strength"]["needs"] == ["factor"]
    assert whole["control/image"]["needs"] == ["model_id"]
    assert whole["loras"]["options"] == [["lora-1", "An asset"]]


def test_a_model_that_needs_a_mask_still_offers_its_start_image(form: quickjs.Context) -> None:
    found = controls(call(form, "sections", request_schema(model(modes=("inpaint",)), Limits())))
    assert (found["init_image"]["needs"], found["mask_image"]["needs"]) == ([], ["init_image"])


def test_without_assets_there_is_nothing_to_choose_from(form: quickjs.Context) -> None:
    found = controls(call(form, "withoutAssets", request_schema(model(), Limits())))
    assert not {"loras", "control"} & found.keys()


def test_the_page_has_the_status_table_of_the_contracts() -> None:
    context = scripts("job_lifecycle.js")
    assert json.loads(context.eval("JSON.stringify(STATUS_TABLE)")) == status_table()
    assert set(json.loads(context.eval("JSON.stringify(TERMINAL)"))) == {event.TOKEN for event in TERMINAL_EVENTS}


class BrokenGateway:
    """A gateway that sends one job's events after the last id it is given, with the faults of `faults`.

    The fault of a response: how many events it sends, the size of the pieces, and how it ends.
    """

    def __init__(self, count: int, faults: list[tuple[int, int, str]]) -> None:
        names = ["requested", *["step"] * (count - 2), TERMINAL_EVENTS[0].TOKEN]
        self.frames = [f'id: {n}-0\nevent: {name}\ndata: {{"n": {n}}}\n\n' for n, name in enumerate(names, 1)]
        self.faults = faults

    def answer(self, path: str, headers: str) -> str:
        """One answer, as JSON."""
        assert path == "v1/jobs/J/events"
        last = int(json.loads(headers).get("Last-Event-ID", "0-0").split("-")[0])
        count, size, end = self.faults.pop(0) if self.faults else (len(self.frames), 1000, "ends")
        if end in ("unavailable", "503"):
            return json.dumps({"unavailable": end == "unavailable", "status": 503, "pieces": []})
        text = ": keep-alive\n\n" + "".join(self.frames[last : last + count])
        if end == "half":
            text += "id: 99-0\nevent: st"
        pieces = [text[at : at + size] for at in range(0, len(text), size)]
        return json.dumps({"status": 200, "pieces": pieces, "breaks": end == "breaks"})


def followed(gateway: Callable[[str, str], str]) -> quickjs.Context:
    """The page's stream reader, once it has nothing left to do."""
    context = scripts("job_lifecycle.js", "gateway.js")
    context.add_callable("gateway", gateway)
    context.eval(BROWSER)
    context.eval("follow()")
    for _ in range(JOBS_MAX):
        if not context.execute_pending_job():
            return context
    raise AssertionError("it never stops asking")


ENDS = st.sampled_from(["ends", "breaks", "half", "unavailable", "503"])


@given(st.integers(2, 12), st.lists(st.tuples(st.integers(0, 5), st.integers(1, 50), ENDS)))
def test_however_a_stream_breaks_each_event_is_received_once(count: int, faults: list[tuple[int, int, str]]) -> None:
    gateway = BrokenGateway(count, faults)
    context = followed(gateway.answer)
    assert context.eval("over")
    received = json.loads(context.eval("JSON.stringify(received)"))
    assert [each["data"]["n"] for each in received] == list(range(1, count + 1))
    assert [each["name"] for each in received] == [
        frame.split("\n")[1].removeprefix("event: ") for frame in gateway.frames
    ]


@pytest.mark.parametrize("status", [204, 404])
def test_a_finished_or_unknown_stream_is_not_requested_again(status: int) -> None:
    asked: list[str] = []

    def answer(path: str, _headers: str) -> str:
        asked.append(path)
        return json.dumps({"status": status, "pieces": []})

    context = followed(answer)
    assert (context.eval("over"), context.eval("lost"), len(asked)) == (True, 0, 1)


def test_a_stream_that_goes_on_where_it_was_left_has_not_begun_anew() -> None:
    asked: list[str] = []
    begins = iter(["5-1-log", "6-2-log", "9-0-new"])

    def answer(path: str, headers: str) -> str:
        asked.append(json.loads(headers).get("Last-Event-ID", ""))
        if (begin := next(begins, None)) is None:
            return json.dumps({"status": 401, "pieces": []})
        told = 'id: 6-2-log\nevent: held\ndata: {"n": 1}\n\n' if len(asked) == 1 else ""
        return json.dumps({"status": 200, "pieces": [f"id: {begin}\n\n: still here\n\n{told}retry: 5\n\n"]})

    context = followed(answer)
    received = json.loads(context.eval("JSON.stringify(received.map(each => [each.name, each.id]))"))
    assert received == [["begin", "5-1-log"], ["held", "6-2-log"], ["begin", "9-0-new"]]
    assert asked == ["", "6-2-log", "6-2-log", "9-0-new"]


def test_the_licences_of_a_model_and_its_parts_are_named_once() -> None:
    form = scripts("request_form.js")
    llama = {"licence": "Llama 3.1 Community License"}
    for descriptor, said in (
        ({"licence": "MIT", "source": {"components": [llama, llama]}}, "MIT; Llama 3.1 Community License"),
        ({"licence": "MIT", "source": {}}, "MIT"),
        ({"licence": "unknown", "source": None}, ""),
    ):
        assert form.eval(f"licencesOf({json.dumps(descriptor)})") == said


def test_what_a_form_cannot_show_of_a_request_is_named() -> None:
    form = scripts("request_form.js")
    loras = [{"model_id": "a", "weight": 0.5}, {"model_id": "b", "weight": 1}]
    cases: tuple[tuple[object, object, list[str]], ...] = (
        ("euler", "euler", []),
        ("euler", None, ["what euler"]),
        (2.5, 2.5, []),
        (30, "30", []),
        (None, 3, []),
        ("", None, []),
        (0, None, []),
        (0, 1, ["what 0"]),
        (loras, loras[::-1], []),
        (loras, loras[:1], ["what b"]),
        (loras, [loras[0], {"model_id": "b", "weight": 2}], ["what b"]),
        ({"factor": 2, "strength": None}, {"factor": 2, "strength": 0.3}, []),
        ({"model_id": "c", "scale": 1}, {"scale": 1}, ["what (model id c)"]),
    )
    for asked, shown, named in cases:
        assert call(form, "differences", asked, shown, "what") == named, (asked, shown)


def test_characters_are_counted_as_the_gateway_counts_them() -> None:
    context = scripts("text_limit.js")
    for text in ("", "abc", "é", "🐈 cat", "日本語"):
        assert call(context, "characters", text) == len(text)


def test_a_batch_is_made_of_the_form_and_its_images_lie_in_columns() -> None:
    engine = scripts("form_controls.js", "messages.js", "batch_form.js", "batch_view.js")
    body = {"prompt": "a {b|c}", "negative_prompt": "d", "steps": 4, "model_id": "m"}
    choice = {"template": True, "samples": 3, "axes": [["seed", [1, 2]], ["steps", [2, 4, 8]]]}
    made = json.loads(engine.eval(f"JSON.stringify(batchBody({json.dumps(body)}, {json.dumps(choice)}))"))
    assert made == {
        "request": {"model_id": "m"},
        "template": {"prompt": "a {b|c}", "negative_prompt": "d"},
        "grid": {"seed": [1, 2], "steps": [2, 4, 8]},
        "samples": 3,
    }
    assert list(made["grid"]) == ["seed", "steps"]
    template = {"grid": [{"parameter": "seed", "values": [1, 2]}, {"parameter": "steps", "values": [2, 4]}]}
    assert json.loads(engine.eval(f"JSON.stringify(columnsOf({json.dumps(template)}))")) == ["Steps 2", "Steps 4"]
    assert engine.eval('describeChosen({steps: 2, prompt: "a", seed: 1}, "steps")') == "a, seed 1"
    assert json.loads(engine.eval('JSON.stringify(valuesOf("1, 2.5,", {type: "number"}))')) == [1, 2.5]
    with pytest.raises(quickjs.JSException, match="x is no number"):
        engine.eval('valuesOf("1, x", {type: "number"})')
