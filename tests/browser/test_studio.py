"""The studio in a real browser: wide and narrow, light and dark, by keys alone wherever a person can use them.

One browser and one system serve all tests, which is why they are in one file (a test process takes a whole file).
Everything waits for what it wants to see, and for no time; the page's own pauses are passed by its clock.
"""

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from axe_playwright_python.sync_playwright import Axe
from PIL import Image, PngImagePlugin
from playwright.sync_api import Browser, BrowserContext, Page, Request, Response, Route, expect, sync_playwright
from system_testkit.studio_system import MODEL, SIDE_PX, StudioSystem, film, picture, studio_system
from system_testkit.webhook_receiver import WebhookReceiver

from dreamforge.runtime.testing import eventually
from dreamforge.runtime.testing.choice import chosen_servers

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDE_LIGHT, NARROW_DARK = (1280, "light"), (390, "dark")
WIDE_DARK, NARROW_LIGHT = (1280, "dark"), (390, "light")
HEIGHT_PX = 844
# What two slow cores need for one reaction of the page while other tests run.
REACTION_MILLISECONDS = 30_000
BOTH = pytest.mark.parametrize("view", [WIDE_LIGHT, NARROW_DARK], ids=["wide-light", "narrow-dark"])
ALL = pytest.mark.parametrize(
    "view",
    [WIDE_LIGHT, NARROW_DARK, WIDE_DARK, NARROW_LIGHT],
    ids=["wide-light", "narrow-dark", "wide-dark", "narrow-light"],
)


@dataclass
class Studio:
    """The system, called from a test that is no coroutine, and the browser that looks at it."""

    portal: BlockingPortal
    system: StudioSystem
    browser: Browser
    url: str
    pages: list[Page] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def do(self, function: Any, *arguments: Any, **options: Any) -> Any:  # Any: whatever the coroutine gives
        """Await a coroutine function of the system."""
        return self.portal.call(partial(function, *arguments, **options))

    def open(self, view: tuple[int, str], context: BrowserContext | None = None) -> Page:
        """The studio in a window of its own, once it has the models."""
        page = self.window(view, context)
        page.goto(self.url)
        expect(page.locator("#field-model_id")).not_to_have_value("")
        return page

    def window(self, view: tuple[int, str], context: BrowserContext | None = None) -> Page:
        """An empty window. Errors in its scripts fail the test."""
        width_px, scheme = view
        context = context or self.browser.new_context(
            viewport={"width": width_px, "height": HEIGHT_PX},
            color_scheme="dark" if scheme == "dark" else "light",
            reduced_motion="reduce",
        )
        context.set_default_timeout(REACTION_MILLISECONDS)
        page = context.new_page()
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.pages.append(page)
        return page

    def card(self, page: Page, job_id: str) -> Any:
        """The card of a job."""
        return page.locator(f"[id='{job_id}']")


@pytest.fixture(scope="module")
def whole_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    if chosen_servers() != "embedded":
        pytest.skip("starts servers of its own: needs FORGE_TEST_SERVERS=embedded")
    if CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail("CI must have a browser: apt-get install chromium")
        pytest.skip("needs a browser: apt-get install chromium")
    expect.set_options(timeout=REACTION_MILLISECONDS)
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(studio_system(tmp_path_factory.mktemp("studio"))) as system,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield Studio(portal, system, browser, str(system.client.base_url))
        browser.close()


@pytest.fixture
def studio(whole_studio: Studio) -> Iterator[Studio]:
    """At the end of each test nothing is wider than the window, no script has failed, and its windows are closed."""
    yield whole_studio
    wide = [page.evaluate("document.documentElement.scrollWidth - innerWidth") for page in whole_studio.pages]
    for context in {page.context for page in whole_studio.pages}:
        context.close()
    problems, whole_studio.problems, whole_studio.pages = whole_studio.problems, [], []
    assert (problems, [by for by in wide if by > 0]) == ([], [])


def press(page: Page, target: Any, key: str = "Enter") -> None:
    """Use an element by the keyboard."""
    target.focus()
    expect(target).to_be_focused()
    page.keyboard.press(key)


def is_shown(image: Any) -> bool:
    """Whether the bytes of an image have come."""
    return bool(image.evaluate("image => image.complete && image.naturalWidth > 0"))


# A card is drawn anew with each event of its job.
REPLACED_MAX = 20


def await_shown(page: Page, image: Any) -> None:
    """Wait until the bytes of an image have come, also where the page replaces its element meanwhile."""
    for _ in range(REPLACED_MAX):
        handle = image.element_handle()
        page.evaluate("image => image.scrollIntoView({block: 'nearest'})", handle)
        shown = "image => !image.isConnected || (image.complete && image.naturalWidth > 0)"
        page.wait_for_function(shown, arg=handle)
        if page.evaluate("image => image.isConnected", handle):
            return
    raise AssertionError("the element of the image is replaced again and again")


@BOTH
def test_images_come_from_the_address_of_the_page(studio: Studio, view: tuple[int, str]) -> None:
    job_id = studio.do(studio.system.finished_job, picture(1), picture(2))
    page = studio.window(view)
    asked: list[Request] = []
    page.on("request", lambda request: asked.append(request))
    page.goto(studio.url)
    images = studio.card(page, job_id).locator("figure img")
    expect(images).to_have_count(2)
    for index in range(2):
        await_shown(page, images.nth(index))
    press(page, studio.card(page, job_id).locator(".open").first)
    await_shown(page, page.locator("#viewer > img"))
    page.keyboard.press("ArrowRight")
    expect(page.locator("#viewer dl")).to_contain_text("2 of 2")
    page.keyboard.press("Escape")
    expect(page.locator("#viewer")).to_be_hidden()
    pictures = [each.url for each in asked if each.resource_type == "image"]
    assert len([url for url in pictures if url.endswith("/thumbnail")]) >= 2
    assert {url.startswith(studio.url) for url in pictures if not url.startswith("data:")} == {True}


def test_a_video_is_played_and_read_where_a_person_goes(studio: Studio) -> None:
    data = film(frames=96, frames_per_second=24)
    job_id = studio.do(studio.system.finished_job, data)
    page = studio.open(WIDE_LIGHT)
    if not page.evaluate("document.createElement('video').canPlayType('video/mp4; codecs=\"avc1.64000a\"')"):
        pytest.skip("this browser has no H.264")
    card = studio.card(page, job_id)
    await_shown(page, card.locator("figure img"))
    answers: list[Response] = []
    page.on("response", lambda response: answers.append(response) if response.url.endswith("-0") else None)
    press(page, card.locator(".open").first)
    video = page.locator("#viewer > video")
    expect(video).to_be_visible()
    expect(page.locator("#viewer > img")).to_be_hidden()
    video.evaluate(
        "video => new Promise((done, failed) => { video.muted = true;"
        " video.ontimeupdate = () => video.currentTime > 0 && done(); video.play().catch(failed); })"
    )
    assert video.evaluate("video => [video.videoWidth, video.videoHeight, video.duration, video.error]") == [
        SIDE_PX, SIDE_PX, 4, None,
    ]  # fmt: skip
    video.evaluate(
        "video => new Promise(done => { video.pause(); video.onseeked = () => done(); video.currentTime = 3.5; })"
    )
    assert video.evaluate("video => [video.currentTime, video.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA]") == [
        3.5, True,
    ]  # fmt: skip
    assert answers
    assert {answer.status for answer in answers} == {206}, "a player asks for ranges"
    page.keyboard.press("Escape")
    expect(video).not_to_have_attribute("src", re.compile("."))


@BOTH
def test_an_image_is_shown_as_soon_as_it_is_finished(studio: Studio, view: tuple[int, str]) -> None:
    job_id = studio.do(studio.system.submit, images=2)
    studio.do(studio.system.start, job_id)
    page = studio.open(view)
    figures = studio.card(page, job_id).locator("figure")
    expect(figures).to_have_count(2)
    data = picture(1000 + view[0])
    studio.do(studio.system.store_image, job_id, 0, data)
    await_shown(page, figures.first.locator("img"))
    expect(figures.first).not_to_contain_text("cannot be read")
    expect(figures.last).to_have_class("pending")
    studio.do(studio.system.store_image, job_id, 1, picture(2000 + view[0]))
    await_shown(page, figures.last.locator("img"))
    studio.do(studio.system.cancel, job_id)
    expect(studio.card(page, job_id).locator(".state")).to_contain_text("cancelled")
    await_shown(page, figures.last.locator("img"))


def test_every_window_shows_the_progress_of_every_job_over_one_stream(studio: Studio) -> None:
    first, second, waiting = (studio.do(studio.system.submit) for _ in range(3))
    for job_id in (first, second):
        studio.do(studio.system.start, job_id)
    page = studio.window(WIDE_LIGHT)
    streams: list[str] = []
    page.context.on("request", lambda request: streams.append(request.url) if "/events" in request.url else None)
    pages = [page, *(studio.window(WIDE_LIGHT, page.context) for _ in range(2))]
    for each in pages:  # a browser has six connections to a host: three windows with two streams would have none left
        each.goto(studio.url)
        for job_id in (first, second):
            expect(studio.card(each, job_id).locator(".state")).to_contain_text("rendering")
    for step, job_id in enumerate((first, second, first, second), 1):
        studio.do(studio.system.step, job_id, step, 8)
        for each in pages:
            expect(studio.card(each, job_id).locator("progress")).to_have_attribute("value", str(step / 8))
    history = studio.card(pages[1], first).locator(".history")
    history.locator("summary").click()
    expect(history.locator("li")).to_have_count(3)
    studio.do(studio.system.cancel, first)
    studio.do(studio.system.start, waiting)
    for each in pages:
        expect(studio.card(each, first).locator(".state")).to_contain_text("cancelled")
        expect(studio.card(each, waiting).locator(".state")).to_contain_text("rendering")
    expect(history.locator("li")).to_have_count(5)
    assert sorted(url.partition("/v1/")[2] for url in streams) == [*["events"] * 3, f"jobs/{first}/events"]
    for job_id in (second, waiting):
        studio.do(studio.system.cancel, job_id)


@BOTH
def test_settings_that_cannot_be_taken_over_are_named(studio: Studio, view: tuple[int, str]) -> None:
    model = MODEL.model_copy(update={"model_id": "leaving", "title": "The leaving model"})
    studio.do(studio.system.register, model)
    own = {"model_id": "leaving", "preset": "wide", "sampler": "euler", "prompt": "made by a model that leaves"}
    job_id = studio.do(studio.system.finished_job, picture(4), **own)
    page = studio.open(view)
    page.locator("#field-model_id").select_option("leaving")
    studio.do(studio.system.unregister, "leaving")
    page.reload()
    expect(page.locator("#notice")).to_contain_text("model leaving (The first model is chosen)")
    press(page, studio.card(page, job_id).locator(".reuse"))
    expect(page.locator("#notice")).to_contain_text("Not taken over: model leaving (The first model is chosen)")
    assert page.locator("#field-preset").input_value() == "wide"
    expect(page.locator("#notice")).not_to_contain_text("preset")


PAINTED = """canvas => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let painted = 0;
  for (let at = 0; at < data.length; at += 4) painted += data[at] === 255 && data[at + 3] === 255;
  return painted;
}"""


@pytest.mark.parametrize(
    ("view", "width_px", "height_px"),
    [(WIDE_LIGHT, 512, 512), (NARROW_DARK, 512, 512), (NARROW_LIGHT, 900, 200), (WIDE_DARK, 200, 900)],
    ids=["wide-light", "narrow-dark", "narrow-light-flat", "wide-dark-high"],
)
def test_a_mask_is_drawn_by_clicks_and_keys_and_taken_back(
    studio: Studio, view: tuple[int, str], width_px: int, height_px: int
) -> None:
    page = studio.open(view)
    start = page.locator("#field-init_image")
    press(page, page.locator("details:has(#field-init_image) > summary"))
    file = {"name": "start.png", "mimeType": "image/png", "buffer": picture(5, width_px, height_px)}
    start.set_input_files(file)  # type: ignore[arg-type]
    press(page, page.get_by_role("button", name="Draw the mask"))
    canvas, image = page.locator("canvas"), page.locator(".picture:has(canvas) img")
    await_shown(page, image)
    page.wait_for_function("width => document.querySelector('canvas').width === width", arg=width_px)
    box, frame = canvas.bounding_box(), image.bounding_box()
    assert box == frame, "the canvas lies on the image"
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= view[0]
    assert box["width"] / box["height"] == pytest.approx(width_px / height_px, rel=0.05)

    canvas.click()
    by_click = canvas.evaluate(PAINTED)
    assert by_click > 0, "a click draws a dot"
    press(page, page.get_by_role("button", name="Undo"))
    assert canvas.evaluate(PAINTED) == 0
    expect(page.get_by_role("button", name="Undo")).to_be_disabled()
    press(page, canvas, " ")
    page.get_by_role("button", name="Clear").focus()
    by_key = canvas.evaluate(PAINTED)
    assert by_key == pytest.approx(by_click, rel=0.1)
    press(page, canvas, "Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    page.get_by_role("button", name="Clear").focus()
    assert canvas.evaluate(PAINTED) > by_key
    press(page, canvas, "Control+z")
    page.get_by_role("button", name="Clear").focus()
    assert canvas.evaluate(PAINTED) == by_key

    page.locator("#field-prompt").fill("another sky")
    with page.expect_request(lambda request: request.method == "POST" and request.url.endswith("/v1/jobs")) as sent:
        page.keyboard.press("Control+Enter")
    body = sent.value.post_data_json
    assert body["init_image"] != body["mask_image"]
    expect(page.locator("#jobs h2").first).to_have_text("another sky")


@BOTH
def test_a_text_that_is_too_long_is_said_and_never_cut(studio: Studio, view: tuple[int, str]) -> None:
    page = studio.open(view)
    prompt = page.locator("#field-prompt")
    long = "🐈" * 2001
    prompt.fill(long)
    assert prompt.input_value() == long
    expect(page.locator("#field-prompt-count")).to_have_text("2001 of 2000 characters")
    press(page, page.locator("#submit"))
    expect(page.locator(".field:has(#field-prompt) small.error")).to_contain_text("At most 2000 characters")
    expect(prompt).to_be_focused()
    page.keyboard.press("End")
    page.keyboard.press("Backspace")
    expect(page.locator("#field-prompt-count")).to_have_text("2000 of 2000 characters")
    with page.expect_response(lambda each: each.request.method == "POST" and each.url.endswith("/v1/jobs")) as sent:
        page.keyboard.press("Control+Enter")
    assert sent.value.status == 202
    press(page, page.locator("details:has(#field-negative_prompt) > summary"))
    page.locator("#field-negative_prompt").fill("x" * 2001)
    assert len(page.locator("#field-negative_prompt").input_value()) == 2001
    expect(page.locator("#field-negative_prompt-count")).to_have_text("2001 of 2000 characters")


@BOTH
def test_the_form_outlives_a_reload_and_keeps_what_was_typed(studio: Studio, view: tuple[int, str]) -> None:
    job_id = studio.do(studio.system.finished_job, picture(6), prompt="the text of the job", steps=9)
    page = studio.open(view)
    prompt, steps = page.locator("#field-prompt"), page.locator("#field-steps")
    prompt.focus()
    page.keyboard.press("Control+a")
    page.keyboard.type("my own text")
    page.locator("#field-preset").select_option("wide")
    press(page, page.locator("details:has(#field-steps) > summary"))
    steps.fill("6")
    page.reload()
    expect(steps).to_be_visible()
    expect(page.locator("#field-preset")).to_have_value("wide")
    expect(prompt).to_have_value("my own text")
    expect(steps).to_have_value("6")

    press(page, studio.card(page, job_id).locator(".reuse"))
    expect(page.locator("#notice")).to_contain_text("Your prompt stays.")
    expect(prompt).to_have_value("my own text")
    expect(steps).to_have_value("9")
    press(page, page.get_by_role("button", name="Use the prompt of the job"))
    expect(prompt).to_have_value("the text of the job")
    press(page, page.locator("#reset"))
    expect(prompt).to_have_value("")
    press(page, page.get_by_role("button", name="Bring it back"))
    expect(prompt).to_have_value("the text of the job")
    expect(steps).to_have_value("9")


@BOTH
def test_what_is_typed_before_the_models_are_known_stays(studio: Studio, view: tuple[int, str]) -> None:
    page = studio.window(view)
    held: list[Route] = []
    page.route("**/v1/models", lambda route: held.append(route) if not held else route.continue_())
    with page.expect_request("**/v1/models"):
        page.goto(studio.url)
    page.locator("#field-prompt").fill("typed early")
    held[0].continue_()
    expect(page.locator("#field-model_id")).to_have_value("first")
    expect(page.locator("#field-prompt")).to_have_value("typed early")


@BOTH
def test_a_file_that_is_dropped_beside_a_field_stays_in_the_page(
    studio: Studio, view: tuple[int, str], tmp_path: Path
) -> None:
    page = studio.open(view)
    page.locator("#field-prompt").fill("do not lose me")
    devtools = page.context.new_cdp_session(page)
    for name, data, said in (
        ("notes.txt", b"notes", "Only an image can be used here"),
        ("start.png", picture(8), ""),
    ):
        (tmp_path / name).write_bytes(data)
        files = {"items": [], "files": [str(tmp_path / name)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            devtools.send("Input.dispatchDragEvent", {"type": kind, "x": 5, "y": 5, "data": files})
        if said:
            expect(page.locator("#notice")).to_contain_text(said)
    expect(page.locator(".picture:has(#field-init_image) .chosen")).to_be_visible()
    await_shown(page, page.locator(".picture:has(#field-init_image) img"))
    assert page.url.rstrip("/") == studio.url.rstrip("/")
    assert page.locator("#field-prompt").input_value() == "do not lose me"


@BOTH
def test_the_settings_in_a_dropped_image_fill_the_form(studio: Studio, view: tuple[int, str], tmp_path: Path) -> None:
    page = studio.open(view)
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "a fox\nSteps: 7, Sampler: Unheard of, Seed: 5, Size: 64x64, Model: some-mix, VAE: x")
    Image.new("RGB", (8, 8)).save(tmp_path / "fox.png", pnginfo=info)
    files = {"items": [], "files": [str(tmp_path / "fox.png")], "dragOperationsMask": 1}
    devtools = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        devtools.send("Input.dispatchDragEvent", {"type": kind, "x": 5, "y": 5, "data": files})
    expect(page.locator("#notice")).to_contain_text("an image of A1111. Not here: model some-mix. Left out: VAE x")
    expect(page.locator("#field-prompt")).to_have_value("a fox")
    expect(page.locator("#field-seed")).to_have_value("5")
    page.get_by_role("button", name="Start from this image instead").click()
    expect(page.locator(".picture:has(#field-init_image) .chosen")).to_be_visible()


@BOTH
def test_images_come_back_after_an_outage(studio: Studio, view: tuple[int, str]) -> None:
    job_id = studio.do(studio.system.finished_job, picture(view[0]))
    page = studio.window(view)
    page.clock.install()
    studio.do(studio.system.servers.s3.stop)
    page.goto(studio.url)
    place = studio.card(page, job_id).locator(".open")
    place.scroll_into_view_if_needed()
    expect(place).to_contain_text("This image cannot be read now; trying again.")
    studio.do(studio.system.servers.s3.start)
    image = place.locator("img")
    while not is_shown(image):
        page.clock.run_for(1000)
    expect(place).to_have_text("")


@ALL
def test_the_page_has_no_known_fault_of_accessibility(studio: Studio, view: tuple[int, str]) -> None:
    running, held = studio.do(studio.system.submit), studio.do(studio.system.submit)
    done = studio.do(studio.system.finished_job, picture(9), picture(10))
    studio.do(studio.system.start, running)
    studio.do(studio.system.step, running, 2)
    studio.do(studio.system.request, "POST", f"/v1/jobs/{held}/hold")
    page = studio.open(view)
    expect(studio.card(page, running).locator(".message")).to_contain_text("Step 2 of 4")
    await_shown(page, studio.card(page, done).locator("figure img").first)
    for summary in page.locator("form summary").all():
        if summary.is_visible():
            press(page, summary)
    page.locator("#field-prompt").fill("x" * 2001)
    press(page, page.locator("#submit"))
    axe = Axe()
    found = {"page": axe.run(page)}
    press(page, studio.card(page, done).locator(".open").first)
    await_shown(page, page.locator("#viewer > img"))
    found["viewer"] = axe.run(page)
    page.keyboard.press("Escape")
    assert {name: each.generate_report() for name, each in found.items() if each.violations_count} == {}
    studio.do(studio.system.finish, running, picture(11))
    studio.do(studio.system.cancel_waiting)


@BOTH
def test_a_gateway_that_asks_for_keys_gets_one_and_forgets_it(studio: Studio, view: tuple[int, str]) -> None:
    key = studio.do(studio.system.new_key, f"tenant-{view[0]}")  # each view has a list of its own
    page = studio.window(view)
    page.goto(studio.system.keyed_url)
    dialog, field = page.locator("#sign-in"), page.locator("#sign-in input")
    expect(dialog).to_be_visible()
    expect(field).to_be_focused()
    assert Axe().run(page).violations_count == 0
    page.keyboard.type("forge_wrong")
    page.keyboard.press("Enter")
    expect(dialog).to_contain_text("This key is unknown")
    field.fill(key)
    page.keyboard.press("Enter")
    expect(page.locator("#field-model_id")).to_have_value("first")
    expect(dialog).to_be_hidden()
    page.locator("#field-prompt").fill("a secret of mine")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#jobs h2")).to_have_text("a secret of mine")
    assert page.evaluate("document.cookie") == ""
    press(page, page.locator("#sign-out"))
    expect(dialog).to_be_visible()
    expect(page.locator("#field-prompt")).not_to_have_value("a secret of mine")
    assert "secret" not in page.evaluate("JSON.stringify([{ ...localStorage }, { ...sessionStorage }])")


def test_a_user_of_a_provider_signs_in_there_and_comes_back(studio: Studio) -> None:
    page = studio.window(WIDE_LIGHT)
    page.goto(studio.system.keyed_url)
    link = page.locator("#sign-in .by-oidc")
    expect(link).to_be_visible()
    press(page, link)
    expect(page.locator("#field-model_id")).to_have_value("first")
    expect(page.locator("#sign-in")).to_be_hidden()
    page.locator("#field-prompt").fill("asked by ann")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#jobs h2")).to_have_text("asked by ann")
    assert page.evaluate("document.cookie") == ""
    press(page, page.locator("#sign-out"))
    expect(link).to_be_visible()


REACHABLE = """() => {
  const all = document.querySelectorAll("a[href],button,input,select,textarea,summary,[tabindex='0']");
  return [...all].filter(each => each.checkVisibility() && !each.disabled && !each.closest("[inert]"))
    .map(each => (each.dataset.place ??= String(Math.random())));
}"""
FOCUSED = """() => {
  const { activeElement: at } = document, { outlineStyle, outlineWidth } = getComputedStyle(at);
  return [at.dataset.place ?? "", outlineStyle !== "none" && parseFloat(outlineWidth) > 0];
}"""


@BOTH
def test_the_tab_key_reaches_everything_and_shows_where_it_is(studio: Studio, view: tuple[int, str]) -> None:
    studio.do(studio.system.finished_job, picture(12))
    page = studio.open(view)
    expect(page.locator("#jobs > .card").first).to_be_visible()
    expected = set(page.evaluate(REACHABLE))
    reached: dict[str, bool] = {}
    page.evaluate("document.activeElement.blur()")
    for _ in range(2 * len(expected)):
        page.keyboard.press("Tab")
        place, visible = page.evaluate(FOCUSED)
        if place in reached:
            break
        if place:
            reached[place] = visible
    assert expected <= reached.keys()
    assert all(reached.values())


@BOTH
def test_what_a_webhook_did_not_get_is_shown_and_sent_again(studio: Studio, view: tuple[int, str]) -> None:
    receiver = WebhookReceiver(status=500)
    studio.do(receiver.start)
    webhook_id, job_id = studio.do(studio.system.parked_delivery, receiver.url)
    page = studio.open(view)
    webhooks = page.locator("#webhooks")
    press(page, webhooks.locator("> summary"))
    shop = webhooks.locator("> ul > li")
    expect(shop).to_contain_text("shop: job.succeeded, job.failed, job.cancelled")
    summary, deliveries = shop.locator("summary"), shop.locator("details li")
    press(page, summary)
    expect(deliveries.filter(has_text="parked")).to_contain_text("the receiver answered 500")
    receiver.status = 200
    press(page, shop.get_by_role("button", name="Send again what is parked (1)"))
    studio.do(eventually, lambda: receiver.types(job_id) == ["job.succeeded"], REACTION_MILLISECONDS / 1000)
    expect(shop.get_by_role("button")).to_be_hidden()
    expect(deliveries.filter(has_text="parked")).to_be_visible()  # what was open stays open
    for _ in ("closed", "open, and read again"):
        press(page, summary)
    expect(deliveries.filter(has_text="replayed")).to_contain_text(job_id)
    assert Axe().run(page).violations_count == 0
    studio.do(studio.system.request, "DELETE", f"/v1/webhooks/{webhook_id}")
    studio.do(receiver.stop)


@pytest.fixture(scope="module")
def waiting(whole_studio: Studio) -> list[str]:
    """Two jobs, and behind them more waiting ones than the page reads at once; for the last tests of this file."""
    first = [whole_studio.do(whole_studio.system.submit, prompt="the one that runs") for _ in range(2)]
    whole_studio.do(whole_studio.system.submit_many, 51, prompt="a long description of something " * 20)
    return first


@BOTH
def test_a_busy_farm_shows_what_runs_first(studio: Studio, view: tuple[int, str], waiting: list[str]) -> None:
    running = waiting[view == NARROW_DARK]
    studio.do(studio.system.start, running)
    page = studio.open(view)
    first = page.locator("#jobs > .card").first
    expect(first.locator("h2")).to_have_text("the one that runs")
    expect(page.locator("#jobs > .card")).to_have_count(51)
    studio.do(studio.system.finish, running, picture(3))
    expect(first.locator(".state")).to_contain_text("done")
    await_shown(page, first.locator("figure img"))


@BOTH
def test_a_page_that_only_waits_reads_few_bytes(studio: Studio, view: tuple[int, str], waiting: list[str]) -> None:
    page = studio.window(view)
    page.clock.install()
    devtools = page.context.new_cdp_session(page)
    devtools.send("Network.enable")
    received: list[float] = []
    devtools.on("Network.loadingFinished", lambda event: received.append(event["encodedDataLength"]))
    page.goto(studio.url)
    expect(page.locator("#jobs > .card")).to_have_count(50)
    expect(page.locator("#jobs > .card .message").first).not_to_be_empty()
    first = sum(received)
    received.clear()
    lists = lambda each: "/v1/jobs?" in each.url and "status" not in each.url  # noqa: E731
    for _ in range(2):
        with page.expect_response(lists):
            page.clock.run_for(5000)
    with page.expect_response(lists):
        received.clear()
        page.clock.run_for(5000)
    assert first > 50_000
    assert sum(received) < 10_000
