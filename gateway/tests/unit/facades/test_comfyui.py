"""A workflow of ComfyUI becomes one request, or is refused by node."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from comfyui_graphs import (
    IMAGE,
    MODELS,
    OTHER,
    TEXT,
    Graph,
    changed,
    control,
    fields_of,
    node,
    refusal_of,
    text_to_image,
    translated,
)

from dreamforge.contracts.models.descriptor import (
    EPSILON_SAMPLERS,
    FLOW_SAMPLERS,
)
from dreamforge.gateway.facades.comfyui.graph import NODES_MAX, graph_to_keep, read_graph
from dreamforge.gateway.facades.comfyui.nodes import NODES
from dreamforge.gateway.facades.comfyui.nodes_page import with_table
from dreamforge.gateway.facades.comfyui.object_info import object_info
from dreamforge.gateway.facades.comfyui.refusals import comfy_error
from dreamforge.gateway.facades.comfyui.samplers import COMFY_SAMPLERS, SAMPLER_NAMES, SCHEDULERS
from dreamforge.gateway.facades.comfyui.translate import MaskSource, located, translate
from dreamforge.gateway.http.errors import WorkflowRefused
from dreamforge.gateway.http.problems import problem_of


def image_to_image(**more: dict[str, Any]) -> Graph:
    loaded = node("LoadImage", image=f"{IMAGE}.png", upload="image")
    encoded = node("VAEEncode", pixels=["10", 0], vae=["4", 2])
    return changed(("3", "latent_image", ["11", 0]), ("3", "denoise", 0.5), n10=loaded, n11=encoded, **more)


def two_passes(**changes: Any) -> Graph:
    added = {name: changes.pop(name) for name in list(changes) if name.startswith("n") and name[1:].isdigit()}
    second = text_to_image()["3"]
    second["inputs"] |= {"latent_image": ["12", 0], "denoise": 0.5, "steps": 10, **changes}
    enlarged = node("LatentUpscaleBy", samples=["3", 0], upscale_method="nearest-exact", scale_by=2)
    return changed(("8", "samples", ["13", 0]), n12=enlarged, n13=second, **added)


def test_the_workflow_that_comfyui_opens_with() -> None:
    found = translated(text_to_image())
    assert found.fields == TEXT
    assert set(found.places) == set(TEXT)
    assert found.places["width_px"] == ("5", "width")


def test_an_image_to_start_from_has_a_schedule_of_which_its_part_is_made() -> None:
    found = translated(image_to_image())
    sized = {"width_px", "height_px", "images"}
    expected = {name: value for name, value in TEXT.items() if name not in sized}
    assert found.fields == expected | {"steps": 40, "strength": 0.5, "resize_mode": "image_size"}
    assert (found.images, found.mask) == ({"init_image": f"{IMAGE}.png"}, None)


@pytest.mark.parametrize(
    ("latent", "more", "mask"),
    [
        (
            node("VAEEncodeForInpaint", pixels=["10", 0], vae=["4", 2], mask=["10", 1], grow_mask_by=6),
            {},
            MaskSource(f"{IMAGE}.png", by_alpha=True, grow_px=6),
        ),
        (
            node("SetLatentNoiseMask", samples=["11", 0], mask=["15", 0]),
            {"n15": node("LoadImageMask", image=f"{OTHER}.png", channel="red")},
            MaskSource(f"{OTHER}.png", by_alpha=False),
        ),
    ],
)
def test_a_mask(latent: dict[str, Any], more: Graph, mask: MaskSource) -> None:
    graph = image_to_image(n14=latent, **more)
    graph["3"]["inputs"]["latent_image"] = ["14", 0]
    found = translated(graph)
    assert (found.images, found.mask) == ({"init_image": f"{IMAGE}.png"}, mask)
    assert found.places["mask_image"] == ("14", "mask")


def lora_chain() -> Graph:
    chain = {
        "n20": node("LoraLoader", model=["4", 0], clip=["4", 1], lora_name="film", strength_model=1, strength_clip=1),
        "n21": node(
            "LoraLoader", model=["20", 0], clip=["22", 0], lora_name="x/ink.pt", strength_model=-0.5, strength_clip=-0.5
        ),
        "n22": node("CLIPSetLastLayer", clip=["20", 1], stop_at_clip_layer=-2),
    }
    clip = ["21", 1]
    return changed(("3", "model", ["21", 0]), ("6", "clip", clip), ("7", "clip", clip), **chain)


def test_loras_in_their_order_and_the_layers_of_clip() -> None:
    found = fields_of(lora_chain())
    assert found["loras"] == [{"model_id": "film", "weight": 1.0}, {"model_id": "ink", "weight": -0.5}]
    assert found["clip_skip"] == 1


def test_a_lora_acts_on_what_comes_through_it() -> None:
    only = node("LoraLoaderModelOnly", model=["21", 0], lora_name="ink", strength_model=0.25)
    graph = lora_chain() | {"23": only}
    graph["20"]["inputs"]["strength_clip"] = 0.4
    graph["3"]["inputs"]["model"] = ["23", 0]
    assert fields_of(graph)["loras"] == [
        {"model_id": "film", "weight": 1.0, "text_weight": 0.4},
        {"model_id": "ink", "weight": -0.25, "text_weight": -0.5},
    ]
    graph["6"]["inputs"]["clip"] = graph["7"]["inputs"]["clip"] = ["4", 1]
    assert [each["text_weight"] for each in fields_of(graph)["loras"]] == [0.0, 0.0]
    graph["3"]["inputs"]["model"] = ["4", 0]
    assert "loras" not in fields_of(graph)


def test_a_second_pass_at_twice_the_size() -> None:
    assert fields_of(two_passes()) == TEXT | {"upscale": {"factor": 2.0, "strength": 0.5}}
    by_size = two_passes()
    by_size["12"] = node(
        "LatentUpscale", samples=["3", 0], upscale_method="area", width=1024, height=1536, crop="disabled"
    )
    assert fields_of(by_size)["upscale"]["factor"] == 2.0


def test_a_second_pass_of_its_own() -> None:
    """ComfyUI's own example has another seed and more steps than half of the first pass."""
    own = {"seed": 8, "steps": 14, "cfg": 6, "sampler_name": "dpmpp_2m", "scheduler": "karras", "denoise": 0.5}
    text = node("CLIPTextEncode", text="a wolf", clip=["4", 1])
    found = translated(two_passes(**own, positive=["14", 0], n14=text))
    assert found.fields == TEXT | {
        "upscale": {
            **{"factor": 2.0, "strength": 0.5, "seed": 8, "steps": 28, "sampler": "dpmpp_2m_karras"},
            **{"guidance_scale": 6.0, "prompt": "a wolf"},
        }
    }
    assert (found.places["upscale/steps"], found.places["upscale/prompt"]) == (("13", "steps"), ("14", "text"))


def test_the_advanced_sampler_and_separate_loaders() -> None:
    graph = text_to_image()
    inputs = graph["3"]["inputs"]
    inputs |= {"noise_seed": inputs.pop("seed"), "start_at_step": 0, "end_at_step": 10_000, "add_noise": "enable"}
    inputs["return_with_leftover_noise"] = "disable"
    graph["3"]["class_type"] = "KSamplerAdvanced"
    graph["4"] = node("UNETLoader", unet_name="Stable Diffusion", weight_dtype="default")
    graph["40"] = node("CLIPLoader", clip_name="sd", type="stable_diffusion")
    graph["41"] = node("VAELoader", vae_name="sd")
    for node_id in ("6", "7"):
        graph[node_id]["inputs"]["clip"] = ["40", 0]
    graph["8"]["inputs"]["vae"] = ["41", 0]
    assert fields_of(graph) == TEXT


def test_a_vae_of_its_own_encodes_and_decodes() -> None:
    graph = image_to_image(n41=node("VAELoader", vae_name="soft.safetensors"))
    graph["8"]["inputs"]["vae"] = ["41", 0]
    assert (
        refusal_of(graph)["node_errors"]["11"]["errors"][0]["details"]
        == "vae: must be the VAE that decodes: a job has one"
    )
    graph["11"]["inputs"]["vae"] = ["41", 0]
    found = translated(graph)
    assert (found.fields["vae"], found.places["vae"]) == ("soft", ("41", "vae_name"))
    graph["41"]["inputs"]["vae_name"] = "hard"
    assert "['soft', 'sd', 'sdxl', 'flux']" in refusal_of(graph)["error"]["details"]


def test_families_count_layers_and_guide_in_their_own_way() -> None:
    layers = lora_chain()
    layers["4"]["inputs"]["ckpt_name"] = "sdxl"
    assert "clip_skip" not in {name for name, value in fields_of(layers).items() if value}
    layers["22"]["inputs"]["stop_at_clip_layer"] = -1
    assert "never uses the last layer" in refusal_of(layers)["error"]["details"]
    flux = changed(("4", "ckpt_name", "flux"), ("3", "cfg", 1), ("3", "scheduler", "simple"), ("7", "text", ""))
    found = fields_of(flux)
    assert (found["sampler"], found["prompt"]) == ("flow_euler", "a fox [in snow]")
    assert not {"guidance_scale", "negative_prompt"} & set(found)
    flux["3"]["inputs"]["cfg"] = 3.5
    assert "must be 1" in refusal_of(flux)["error"]["details"]


@pytest.mark.parametrize(
    ("graph", "node_id", "kind", "says"),
    [
        (changed(n50=node("FaceDetailer")), "50", "missing_node_type", "no node 'FaceDetailer'"),
        (changed(n50={"inputs": {}}), "50", "missing_node_type", "class_type is missing"),
        (changed(("3", "model", ["44", 0])), "3", "bad_linked_input", "no node '44'"),
        (changed(("3", "model", "sd")), "3", "bad_linked_input", "must be a link to a MODEL"),
        (changed(("3", "model", ["4", 9])), "3", "bad_linked_input", "no output 9"),
        (changed(("3", "model", ["4", 1])), "3", "return_type_mismatch", "received_type(CLIP)"),
        (changed(("3", "steps", "many")), "3", "invalid_input_type", "must be a number"),
        (changed(("3", "steps", {"a": 1})), "3", "invalid_input_type", "must be a value"),
        (changed(("3", "steps", 0)), "3", "value_smaller_than_min", "at least 1"),
        (changed(("3", "cfg", 1e9)), "3", "value_bigger_than_max", "at most 100"),
        (changed(("3", "cfg", float("nan"))), "3", "invalid_input_type", "finite"),
        (changed(("3", "sampler_name", "dpm_adaptive")), "3", "value_not_in_list", "dpm_adaptive"),
        (changed(("3", "scheduler", "beta")), "3", "value_not_in_list", "which are: normal, simple"),
        (changed(("4", "ckpt_name", "film")), "4", "value_not_in_list", "['sd', 'sdxl', 'flux']"),
        (changed(("4", "ckpt_name", "flux"), ("6", "text", "embedding:hands")), "6", "not_supported", "takes none"),
        (changed(("3", "denoise", 0.5)), "3", "not_supported", "must be 1"),
        (changed(("3", "latent_image", ["3", 0])), "3", "dependency_cycle", "3 -> 3"),
        (changed(("9", "images", ["10", 0]), n10=node("LoadImage", image="x")), "9", "not_supported", "VAEDecode"),
        (two_passes(model=["99", 0], n99=text_to_image()["4"]), "13", "not_supported", "both passes have one model"),
        (two_passes(sampler_name="default"), "13", "not_supported", "name the sampler"),
        (two_passes(positive=["98", 0], n98=node("CLIPTextEncode", text="a", clip=["97", 0]),
                    n97=node("CLIPSetLastLayer", clip=["4", 1], stop_at_clip_layer=-2),
                    negative=["98", 0]), "13", "not_supported", "only its text"),
        (two_passes(latent_image=["3", 0]), "13", "not_supported", "is KSampler"),
        (control("ControlNetApplyAdvanced", positive=["6", 0], negative=["7", 0], start_percent=0.2, end_percent=1),
         "3", "not_supported", "must come through ControlNet nodes 32"),
    ],
)  # fmt: skip
def test_what_has_no_counterpart_is_refused_by_node(graph: Graph, node_id: str, kind: str, says: str) -> None:
    found = refusal_of(graph)
    errors = found["node_errors"][node_id]["errors"]
    assert [each["type"] for each in errors] == [kind]
    assert says in errors[0]["details"]
    assert f"node {node_id} (" in found["error"]["details"]
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda graph: graph["6"]["inputs"].update(clip=["4", 1]), "both are encoded in the same way"),
        (lambda graph: graph["7"]["inputs"].update(clip=["20", 1]), "both are encoded in the same way"),
    ],
)
def test_both_prompts_are_encoded_with_the_same_loras(change: Callable[[Graph], None], says: str) -> None:
    graph = copy.deepcopy(lora_chain())
    change(graph)
    assert says in refusal_of(graph)["error"]["details"]


@pytest.mark.parametrize(
    ("prompt", "kind"),
    [
        (None, "no_prompt"),
        ({}, "no_prompt"),
        ([], "no_prompt"),
        ({"nodes": [], "links": []}, "invalid_prompt"),
        ({"4": text_to_image()["4"]}, "prompt_no_outputs"),
        ({str(each): node("SaveImage") for each in range(NODES_MAX + 1)}, "invalid_prompt"),
        ({"9" * 100: node("SaveImage")}, "invalid_prompt"),
    ],
)
def test_what_is_no_workflow_is_refused_as_a_whole(prompt: object, kind: str) -> None:
    assert refusal_of(prompt)["error"]["type"] == kind


def test_missing_inputs_are_told_together_and_bounded() -> None:
    found = refusal_of({"9": node("SaveImage"), "8": node("PreviewImage", images=["7", 0]), "7": node("VAEDecode")})
    missing = [each["details"] for node_id in ("9", "7") for each in found["node_errors"][node_id]["errors"]]
    assert missing == ["images", "filename_prefix", "samples", "vae"]
    many = {str(each): node(f"Unknown{each}") for each in range(NODES_MAX)}
    assert len(refusal_of(many)["node_errors"]) == 20


def test_a_chain_as_long_as_a_workflow_may_be_is_read_at_once() -> None:
    chain: Graph = {"0": node("CheckpointLoaderSimple", ckpt_name="sd")}
    for each in range(1, NODES_MAX - 8):
        chain[f"l{each}"] = node("CLIPSetLastLayer", clip=[f"l{each - 1}" if each > 1 else "0", 1 if each == 1 else 0],
                                 stop_at_clip_layer=-2)  # fmt: skip
    graph = text_to_image() | chain
    for text in ("6", "7"):
        graph[text]["inputs"]["clip"] = [f"l{NODES_MAX - 9}", 0]
    assert fields_of(graph)["clip_skip"] == 1


def test_only_the_wanted_outputs_count() -> None:
    graph = changed(n50=node("PreviewImage", images=["99", 0]))
    assert read_graph(graph, ["9"]).outputs == ("9",)
    assert refusal_of(graph)["node_errors"].keys() == {"50"}
    with pytest.raises(WorkflowRefused):
        read_graph(graph, [])


def test_wrong_fields_of_a_job_are_told_of_the_nodes_they_are_from() -> None:
    graph = read_graph(lora_chain())
    translation = translate(graph, MODELS)
    told = located(translation, graph, {"width_px": "is too large", "loras/1/model_id": "is for others", "x": "y"})
    assert told is not None
    found: Any = comfy_error(problem_of(told))["node_errors"]
    assert found["5"]["errors"][0]["details"] == "width: is too large"
    assert found["21"]["errors"][0]["extra_info"] == {"input_name": "lora_name"}
    assert located(translation, graph, {"unknown": "is wrong"}) is None


def test_of_a_workflow_is_kept_what_a_database_takes() -> None:
    graph = changed(("9", "filename_prefix", "x"))
    graph["9"] |= {"_meta": {"title": "Save", "more": []}, "is_changed": {}}
    graph["9"]["inputs"]["nested"] = [[["deep"]]]
    kept = graph_to_keep(graph, 10_000)
    assert kept["9"] == {
        "class_type": "SaveImage",
        "inputs": {"images": ["8", 0], "filename_prefix": "x"},
        "_meta": {"title": "Save"},
    }
    for text in ("\x00", "\ud800", "long" * 3_000):
        with pytest.raises(WorkflowRefused):
            graph_to_keep(changed(("6", "text", text)), 10_000)
    assert graph_to_keep(changed(("6", "text", "\\u0000")), 10_000)["6"]["inputs"]["text"] == "\\u0000"


def test_object_info_has_what_clients_look_for() -> None:
    found = object_info(MODELS)
    assert found.keys() == NODES.keys()
    assert found["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"][0] == ["sd", "sdxl", "flux"]
    assert found["LoraLoader"]["input"]["required"]["lora_name"][0] == ["film", "ink"]
    required = found["KSampler"]["input"]["required"]
    assert (required["sampler_name"][0], required["scheduler"][0]) == (list(SAMPLER_NAMES), list(SCHEDULERS))
    assert required["seed"] == ["INT", {"default": 0, "min": 0, "max": 2**64 - 1}]
    assert found["SaveImage"]["output_node"]
    assert found["VAELoader"]["input"]["required"]["vae_name"][0] == ["soft", "sd", "sdxl", "flux"]
    assert found["VAELoader"]["input_order"] == {"required": ["vae_name"]}


def test_the_documented_list_is_that_of_the_code() -> None:
    page = (Path(__file__).parents[4] / "docs/comfyui.md").read_text()
    assert with_table(page) == page, "run python -m dreamforge.gateway.facades.comfyui.nodes_page docs/comfyui.md"


def test_every_sampler_of_ours_but_one_has_a_name_there() -> None:

    ours = {each for _, _, each in COMFY_SAMPLERS}
    assert {*EPSILON_SAMPLERS, *FLOW_SAMPLERS} - ours == {"pndm"}  # ComfyUI has no PLMS
