"""Features act in their order, and each hook has one rule for what several of them say."""

from typing import Any

import pytest
from runner_testkit.tasks import render_task

# Where torch is missing, the tests that must not be skipped fail: see the fixture `torch_installed`.
pytest.importorskip("torch", reason="the child's modules need torch")

from dreamforge.contracts.events import WarningCode
from dreamforge.gpu_runner.rendering.feature_chain import FeatureChain
from dreamforge.gpu_runner.rendering.hooks import RenderedPixels, RenderFeature
from dreamforge.gpu_runner.rendering.passes import Pass, PassContext
from dreamforge.gpu_runner.rendering.renderer import RenderWarning

PIPELINE: Any = object()
TASK = render_task(prompt="a [red] fox")
CONTEXT = PassContext(PIPELINE, TASK, Pass("text", TASK.request))


class Named(RenderFeature):
    """Writes down when it is called."""

    def __init__(self, name: str, calls: list[str]) -> None:
        self.name, self.calls = name, calls

    def run(self, context: Any, pipeline: Any, proceed: Any) -> RenderedPixels:
        self.calls.append(f"{self.name} before")
        result: RenderedPixels = proceed()
        self.calls.append(f"{self.name} after")
        return result

    def encoding(self, context: Any) -> dict[str, Any]:
        return {"clip_skip": 2}

    def prompts(self, context: Any, pipeline: Any, encoding: Any) -> dict[str, Any] | None:
        return {"prompt": self.name} | dict(encoding) if self.name != "silent" else None

    def arguments(self, context: Any, pipeline: Any) -> dict[str, Any]:
        return {"image": self.name}


class Marks(RenderFeature):
    """Reads brackets in prompts."""

    def plain_prompt(self, text: str) -> str:
        return text.replace("[", "").replace("]", "")


class Words(RenderFeature):
    """Warns of the prompt itself."""

    def warnings(self, pipeline: Any, task: Any) -> tuple[RenderWarning, ...]:
        return (RenderWarning(WarningCode.UNKNOWN_WORDS, task.request.prompt),)


def test_the_first_feature_is_the_outermost_around_a_pass() -> None:
    calls: list[str] = []
    chain = FeatureChain([Named("a", calls), RenderFeature(), Named("b", calls)])
    chain.run(CONTEXT, PIPELINE, lambda: RenderedPixels(None))
    assert calls == ["a before", "b before", "b after", "a after"]


def test_the_first_prompts_and_the_last_argument_of_a_name_count() -> None:
    chain = FeatureChain([Named("silent", []), Named("a", []), Named("b", [])])
    assert chain.arguments(CONTEXT, PIPELINE) == {"prompt": "a", "clip_skip": 2, "image": "b"}


def test_warnings_are_about_prompts_without_the_marks_of_any_feature() -> None:
    for order in ([Marks(), Words()], [Words(), Marks()]):
        (warning,) = FeatureChain(order).warnings(PIPELINE, CONTEXT.task)
        assert warning.message == "a red fox"


def test_features_that_do_nothing_change_nothing() -> None:
    chain = FeatureChain([RenderFeature()])
    assert chain.plan(CONTEXT.task) == (CONTEXT.current,)
    assert (chain.parts(CONTEXT), chain.arguments(CONTEXT, PIPELINE)) == ({}, {})
    assert chain.watch(CONTEXT, PIPELINE) is None
