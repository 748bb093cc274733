"""ControlNets of a workflow become those of one request, or are refused by node."""

import re

import pytest
from comfyui_graphs import IMAGE, OTHER, TEXT, Graph, control, node, refusal_of, translated

from dreamforge.gateway.facades.comfyui.graph import read_graph
from dreamforge.gateway.facades.comfyui.refusals import comfy_error
from dreamforge.gateway.facades.comfyui.translate import located
from dreamforge.gateway.http.problems import problem_of

ADVANCED = "ControlNetApplyAdvanced"


def test_a_controlnet_on_the_prompt_or_on_both() -> None:
    both = control("ControlNetApplyAdvanced", positive=["6", 0], negative=["7", 0], start_percent=0, end_percent=1)
    both["3"]["inputs"]["negative"] = ["32", 1]
    for graph in (control("ControlNetApply", conditioning=["6", 0]), both):
        found = translated(graph)
        assert found.fields["control"] == [{"model_id": "canny", "scale": 0.7}]
        assert found.images == {"control/0/image": f"{IMAGE}.png"}
        assert found.fields["prompt"] == TEXT["prompt"]


def chained() -> Graph:
    """Two ControlNets on both prompts, the second for half of the steps and with edges that are found here."""
    links = {"positive": ["6", 0], "negative": ["7", 0], "start_percent": 0, "end_percent": 1}
    graph = control(ADVANCED, **links)
    second = {"positive": ["32", 0], "negative": ["32", 1], "start_percent": 0.25, "end_percent": 0.5}
    return graph | {
        "33": node("LoadImage", image=f"{OTHER}.png"),
        "34": node("Canny", image=["33", 0], low_threshold=0.2, high_threshold=0.6),
        "35": node(ADVANCED, control_net=["30", 0], image=["34", 0], strength=1.0, **second),
        "3": node("KSampler", **graph["3"]["inputs"] | {"positive": ["35", 0], "negative": ["35", 1]}),
    }


def test_chained_controlnets_act_in_their_order_steps_and_with_their_preprocessors() -> None:
    found = translated(chained())
    (first, second) = found.fields["control"]
    assert first == {"model_id": "canny", "scale": 0.7}
    assert second == {"model_id": "canny", "scale": 1.0, "start": 0.25, "end": 0.5} | {
        "preprocess": {"name": "canny", "sigma_px": 1.0, "low": 51.0, "high": 153.0}
    }
    assert found.images == {"control/0/image": f"{IMAGE}.png", "control/1/image": f"{OTHER}.png"}
    assert found.places["control/1/end"] == ("35", "end_percent")
    graph = read_graph(chained())
    for name, place in (("control/1/preprocess/low", "34"), ("control", "35"), ("control/0/image", "31")):
        told = located(found, graph, {name: "is wrong"})
        assert told is not None
        assert f"node {place} (" in comfy_error(problem_of(told))["error"]["details"]  # type: ignore[index]
    inverted = chained()
    inverted["34"] = node("ImageInvert", image=["33", 0])
    assert translated(inverted).fields["control"][1]["preprocess"] == {"name": "invert"}


@pytest.mark.parametrize(
    ("node_id", "name", "value", "says"),
    [
        ("3", "negative", ["7", 0], "node 3 (KSampler).*must come through ControlNet nodes 32, 35"),
        ("35", "negative", ["7", 0], "node 3 (KSampler).*must come through ControlNet nodes 32, 35"),
        ("3", "positive", ["35", 1], "node 3 (KSampler).*must be output 0 of node 35"),
        ("35", "image", ["36", 0], "node 36 .Canny.*is ImageInvert, but must be LoadImage"),
    ],
)
def test_what_a_chain_of_controlnets_cannot_be_is_refused_by_node(
    node_id: str, name: str, value: list[object], says: str
) -> None:
    graph = chained() | {"36": node("Canny", image=["37", 0], low_threshold=0.2, high_threshold=0.6)}
    graph["37"] = node("ImageInvert", image=["33", 0])
    graph[node_id]["inputs"][name] = value
    assert re.search(says.replace("(KSampler)", ".KSampler."), refusal_of(graph)["error"]["details"])
