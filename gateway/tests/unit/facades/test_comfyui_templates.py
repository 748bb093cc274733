"""The workflows that ComfyUI's own templates show: each is one request, or is refused by the node in the way.

Written anew after the templates of the same names; models have the ids of this installation.
"""

from typing import Any

import pytest

from dreamforge.contracts.models.descriptor import ModelDescriptor, Preset, VramProfile
from dreamforge.gateway.facades.comfyui.graph import read_graph
from dreamforge.gateway.facades.comfyui.refusals import comfy_error
from dreamforge.gateway.facades.comfyui.translate import Translation, located, translate
from dreamforge.gateway.http.errors import WorkflowRefused
from dreamforge.gateway.http.problems import problem_of

Graph = dict[str, Any]
VRAM = VramProfile(resident_bytes=2**30, denoise_bytes_per_latent=1, decode_bytes_per_px=1)
PRESET = Preset(name="p", width_px=512, height_px=512, steps=20, guidance_scale=2.0)
FAMILIES = {"sd15": "stable-diffusion", "sdxl": "stable-diffusion-xl", "sd35": "stable-diffusion-3", "flux": "flux",
            "kontext": "flux-kontext"}  # fmt: skip
MODELS = {
    model_id: ModelDescriptor(model_id=model_id, family=family, digest="0" * 64, vram=VRAM, presets=(PRESET,))
    for model_id, family in FAMILIES.items()
}
ADAPTERS = {
    model_id: ModelDescriptor(model_id=model_id, family=family, digest="0" * 64, vram=VRAM, kind="ip_adapter")
    for model_id, family in {"redux": "flux", "face": "stable-diffusion-xl", "style": "stable-diffusion-xl"}.items()
}


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def translated(graph: Graph) -> Translation:
    return translate(read_graph(graph), MODELS | ADAPTERS)


def wrong_with(graph: Graph) -> dict[str, list[str]]:
    """What is wrong, by node."""
    with pytest.raises(WorkflowRefused) as refused:
        translated(graph)
    errors: Any = comfy_error(problem_of(refused.value))["node_errors"]
    return {node_id: [each["details"] for each in found["errors"]] for node_id, found in errors.items()}


def flux(sampling: Graph, model: list[Any] | None = None, guidance: float = 3.5) -> Graph:
    """FLUX from its separate files; `sampling` is node 9 and what it is made of."""
    return {
        "1": node("UNETLoader", unet_name="flux", weight_dtype="default"),
        "2": node("DualCLIPLoader", clip_name1="flux", clip_name2="flux", type="flux", device="default"),
        "3": node("VAELoader", vae_name="flux"),
        "4": node("CLIPTextEncode", text="a fox [in snow]", clip=["2", 0]),
        "5": node("FluxGuidance", conditioning=["4", 0], guidance=guidance),
        "6": node("EmptySD3LatentImage", width=1024, height=768, batch_size=1),
        **sampling,
        "10": node("VAEDecode", samples=["9", 0], vae=["3", 0]),
        "11": node("SaveImage", images=["10", 0], filename_prefix="flux"),
    }


def in_parts(**changes: Any) -> Graph:
    """The sampler of the FLUX dev example."""
    return {
        "20": node("RandomNoise", noise_seed=7),
        "21": node("KSamplerSelect", sampler_name="euler"),
        "22": node("BasicScheduler", model=["24", 0], scheduler="simple", steps=20, denoise=1.0),
        "23": node("BasicGuider", model=["24", 0], conditioning=["5", 0]),
        "24": node("ModelSamplingFlux", model=["1", 0], max_shift=1.15, base_shift=0.5, width=1024, height=768),
        "9": node("SamplerCustomAdvanced", noise=["20", 0], guider=["23", 0], sampler=["21", 0], sigmas=["22", 0],
                  latent_image=["6", 0]),
    }  # fmt: skip


def whole(cfg: float = 1.0, steps: int = 20) -> Graph:
    """The sampler of the newer templates: one node, and zeros for a negative prompt."""
    return {
        "8": node("ConditioningZeroOut", conditioning=["4", 0]),
        "9": node("KSampler", model=["1", 0], seed=7, steps=steps, cfg=cfg, sampler_name="euler", scheduler="simple",
                  positive=["5", 0], negative=["8", 0], latent_image=["6", 0], denoise=1.0),
    }  # fmt: skip


FLUX = {
    **{"model_id": "flux", "prompt": "a fox [in snow]", "seed": 7, "steps": 20, "sampler": "flow_euler"},
    **{"guidance_scale": 3.5, "width_px": 1024, "height_px": 768, "images": 1},
}


@pytest.mark.parametrize("sampling", [in_parts(), whole()])
def test_flux_dev(sampling: Graph) -> None:
    found = translated(flux(sampling))
    assert found.fields == FLUX
    assert found.places["guidance_scale"] == ("5", "guidance")


def test_flux_schnell_says_no_guidance() -> None:
    graph = flux(whole(steps=4))
    graph["9"]["inputs"]["positive"] = ["4", 0]
    assert translated(graph).fields == {name: value for name, value in (FLUX | {"steps": 4}).items()
                                        if name != "guidance_scale"}  # fmt: skip


def test_errors_of_a_sampler_in_parts_name_the_parts() -> None:
    graph = flux(in_parts())
    found = translated(graph)
    assert {name: found.places[name] for name in ("seed", "steps", "sampler", "width_px")} == {
        **{"seed": ("20", "noise_seed"), "steps": ("22", "steps")},
        **{"sampler": ("21", "sampler_name"), "width_px": ("6", "width")},
    }
    told = located(found, read_graph(graph), {"seed": "is too large", "steps": "are too many"})
    assert told is not None
    errors: Any = comfy_error(problem_of(told))["node_errors"]
    assert set(errors) == {"20", "22"}
    graph["21"]["inputs"]["sampler_name"] = "res_multistep"
    assert "'res_multistep' not in" in wrong_with(graph)["21"][0]


def test_a_guider_with_a_cfg_has_both_prompts() -> None:
    graph = flux(in_parts())
    graph["1"] = node("CheckpointLoaderSimple", ckpt_name="sd35")
    for loader in ("2", "3"):
        graph.pop(loader)
    graph["4"]["inputs"]["clip"], graph["10"]["inputs"]["vae"] = ["1", 1], ["1", 2]
    graph["24"] = node("ModelSamplingSD3", model=["1", 0], shift=2.5)
    graph["25"] = node("CLIPTextEncodeSD3", clip=["1", 1], clip_l="blur", clip_g="blur", t5xxl="blur",
                       empty_padding="none")  # fmt: skip
    graph["23"] = node("CFGGuider", model=["24", 0], positive=["4", 0], negative=["25", 0], cfg=4.5)
    found = translated(graph)
    assert (found.fields["guidance_scale"], found.fields["negative_prompt"]) == (4.5, "blur")
    assert (found.fields["flow_shift"], found.places["flow_shift"]) == (2.5, ("24", "shift"))
    assert (found.places["guidance_scale"], found.places["negative_prompt"]) == (("23", "cfg"), ("25", "clip_g"))
    graph["24"] = node("ModelSamplingAuraFlow", model=["1", 0], shift=3.1)
    assert translated(graph).fields["flow_shift"] == 3.1
    graph["24"]["inputs"]["shift"] = 101
    assert "shift" in wrong_with(graph)["24"][0]


def changed(graph: Graph, node_id: str, **inputs: Any) -> Graph:
    graph[node_id]["inputs"] |= inputs
    return graph


@pytest.mark.parametrize(
    ("graph", "node_id", "says"),
    [
        (flux(whole(cfg=2)), "9", "cfg: is 2, but must be 1"),
        (changed(flux(in_parts()), "24", max_shift=2), "24", "max_shift: is 2, but must be 1.15"),
        (changed(flux(in_parts()), "24", width=512), "24", "width: is 512, but must be 1024: the size of the picture"),
        (changed(flux(in_parts()), "22", model=["1", 0]), "22", "model: must be that of node 23"),
        (changed(flux(in_parts()), "22", denoise=0.5), "22", "denoise: is 0.5, but must be 1"),
        (flux(in_parts()) | {"5": node("CLIPTextEncodeFlux", clip=["2", 0], clip_l="a", t5xxl="b", guidance=3)}, "5",
         "clip_l: must be the text of t5xxl"),
        (flux(in_parts()) | {"21": node("SamplerEulerAncestral", eta=1, s_noise=1)}, "21", "SamplerEulerAncestral"),
        (flux(in_parts()) | {"30": node("unCLIPConditioning")}, "30", "unCLIPConditioning"),
    ],
)  # fmt: skip
def test_what_flux_does_otherwise_is_refused_by_node(graph: Graph, node_id: str, says: str) -> None:
    assert says in wrong_with(graph)[node_id][0]


def sdxl(**text: Any) -> Graph:
    sizes = {"width": 1024, "height": 1024, "crop_w": 0, "crop_h": 0, "target_width": 1024, "target_height": 1024}
    texts = {"text_g": "a fox", "text_l": "a fox"}
    return {
        "4": node("CheckpointLoaderSimple", ckpt_name="sdxl.safetensors"),
        "5": node("EmptyLatentImage", width=1024, height=1024, batch_size=1),
        "6": node("CLIPTextEncodeSDXL", clip=["4", 1], **sizes | texts | text),
        "7": node("ConditioningZeroOut", conditioning=["6", 0]),
        "3": node("KSampler", model=["4", 0], seed=1, steps=20, cfg=8, sampler_name="euler", scheduler="normal",
                  positive=["6", 0], negative=["7", 0], latent_image=["5", 0], denoise=1),
        "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
        "9": node("SaveImage", images=["8", 0], filename_prefix="ComfyUI"),
    }  # fmt: skip


def test_sdxl_with_its_own_encoder_and_zeros_for_a_negative_prompt() -> None:
    found = translated(sdxl()).fields
    assert (found["prompt"], found["guidance_scale"], "negative_prompt" in found) == ("a fox", 8.0, False)
    assert "text_l: must be the text of text_g" in wrong_with(sdxl(text_l="b"))["6"][0]
    assert "width: is 4096, but must be 1024" in wrong_with(sdxl(width=4096))["6"][0]
    other = changed(sdxl(), "4", ckpt_name="sd15")
    assert "only the negative one of SDXL can be zeros" in wrong_with(other)["7"][0]


def test_sdxl_simple_has_a_refiner_and_is_refused_at_the_half_finished_latent() -> None:
    settings = {"noise_seed": 1, "steps": 25, "cfg": 8, "sampler_name": "euler", "scheduler": "normal"}
    base = node("KSamplerAdvanced", model=["4", 0], positive=["6", 0], negative=["7", 0], latent_image=["5", 0],
                add_noise="enable", start_at_step=0, end_at_step=20, return_with_leftover_noise="enable",
                **settings)  # fmt: skip
    assert "return_with_leftover_noise: 'enable' not in ['disable']" in wrong_with(sdxl() | {"3": base})["3"][0]


PICTURE, OTHER = f"{'a' * 64}.png", f"{'b' * 64}.png"


def redux(strength: float = 1.0, vision: str = "redux.safetensors") -> Graph:
    """The example of the Redux model: a picture beside the prompt, and another one on top of it."""
    graph = flux(in_parts())
    for first, picture, below in (("40", PICTURE, "5"), ("45", OTHER, "43")):
        load, encode, _, apply = (str(int(first) + place) for place in range(4))
        graph |= {
            load: node("LoadImage", image=picture),
            encode: node("CLIPVisionEncode", clip_vision=["50", 0], image=[load, 0], crop="center"),
            apply: node("StyleModelApply", conditioning=[below, 0], style_model=["51", 0], strength=strength,
                        clip_vision_output=[encode, 0], strength_type="multiply"),
        }  # fmt: skip
    graph |= {
        "50": node("CLIPVisionLoader", clip_name=vision),
        "51": node("StyleModelLoader", style_model_name="redux.safetensors"),
    }
    return changed(graph, "23", conditioning=["48", 0])


def test_flux_redux_shows_pictures_beside_the_prompt() -> None:
    found = translated(redux(strength=0.6))
    prompts = [{"model_id": "redux", "scale": 0.6}] * 2
    assert found.fields == FLUX | {"image_prompts": prompts}
    assert found.images == {"image_prompts/0/image": PICTURE, "image_prompts/1/image": OTHER}
    assert found.places["image_prompts/1/scale"] == ("48", "strength")
    assert wrong_with(redux(vision="face")) == {"50": ["clip_name: must be 'redux', which has an encoder of its own"]}
    assert "'flux' not in ['redux', 'face', 'style']" in wrong_with(redux(vision="flux"))["50"][0]


def test_ip_adapters_are_on_the_model_and_may_be_chained() -> None:
    graph = sdxl() | {
        "40": node("LoadImage", image=PICTURE),
        "41": node("IPAdapterModelLoader", ipadapter_file="face"),
        "42": node("IPAdapterModelLoader", ipadapter_file="style"),
    }
    common = {"image": ["40", 0], "weight_type": "linear", "combine_embeds": "concat", "embeds_scaling": "V only"}
    graph["43"] = node("IPAdapterAdvanced", model=["4", 0], ipadapter=["41", 0], weight=0.8, start_at=0, end_at=1,
                       **common)  # fmt: skip
    graph["44"] = node("IPAdapterAdvanced", model=["43", 0], ipadapter=["42", 0], weight=0.5, start_at=0.2, end_at=0.9,
                       **common)  # fmt: skip
    found = translated(changed(graph, "3", model=["44", 0]))
    assert found.fields["image_prompts"] == [
        {"model_id": "face", "scale": 0.8},
        {"model_id": "style", "scale": 0.5, "start": 0.2, "end": 0.9},
    ]
    assert found.places["image_prompts/1/start"] == ("44", "start_at")
    several = changed(graph, "44", weight_type="style transfer")
    assert "'style transfer' not in ['linear']" in wrong_with(several)["44"][0]


def kontext(encoder: str = "VAEEncode") -> Graph:
    """An instruction about two pictures."""
    graph = flux(in_parts()) | {
        "1": node("UNETLoader", unet_name="kontext", weight_dtype="default"),
        "2": node("DualCLIPLoader", clip_name1="kontext", clip_name2="kontext", type="flux", device="default"),
        "3": node("VAELoader", vae_name="kontext"),
        "40": node("LoadImage", image=PICTURE),
        "41": node("FluxKontextImageScale", image=["40", 0]),
        "42": node(encoder, pixels=["41", 0], vae=["3", 0], mask=["40", 1], grow_mask_by=0),
        "43": node("ReferenceLatent", conditioning=["4", 0], latent=["42", 0]),
        "44": node("LoadImage", image=OTHER),
        "45": node("VAEEncode", pixels=["44", 0], vae=["3", 0]),
        "46": node("ReferenceLatent", conditioning=["43", 0], latent=["45", 0]),
    }
    for name in ("22", "23"):
        graph[name]["inputs"]["model"] = ["1", 0]
    return changed(graph, "5", conditioning=["46", 0])


def test_kontext_reads_references_in_the_order_of_the_chain() -> None:
    found = translated(kontext())
    assert found.fields == FLUX | {"model_id": "kontext", "references": ["", ""]}
    assert found.images == {"references/0": PICTURE, "references/1": OTHER}
    assert found.places["references/1"] == ("44", "image")
    said = "latent: is VAEEncodeForInpaint, but must be VAEEncode"
    assert wrong_with(kontext("VAEEncodeForInpaint")) == {"43": [said]}


def kontext_template(**stitch: Any) -> Graph:
    """The template of FLUX.1 Kontext dev: what the sampler starts from is the reference, of which the size is left."""
    graph = kontext() | {
        "20": node("LoadImageOutput", image=f"{PICTURE} [output]"),
        "21": node("ImageStitch", image1=["20", 0], **stitch),
        **{"41": node("FluxKontextImageScale", image=["21", 0]), "12": node("PreviewImage", images=["41", 0])},
        **{"8": node("ConditioningZeroOut", conditioning=["4", 0])},
        "9": node("KSampler", model=["1", 0], seed=7, steps=20, cfg=1, sampler_name="euler", scheduler="simple",
                  positive=["5", 0], negative=["8", 0], latent_image=["42", 0], denoise=1.0),
    }  # fmt: skip
    for left_out in ("22", "23", "24", "40", "44", "45", "46"):
        graph.pop(left_out)
    return changed(graph, "5", conditioning=["43", 0], guidance=2.5)


def test_kontext_of_the_template_has_the_size_that_its_reference_is_scaled_to() -> None:
    found = translated(kontext_template())
    expected = {name: value for name, value in FLUX.items() if name not in ("width_px", "height_px", "images")}
    assert found.fields == expected | {"model_id": "kontext", "guidance_scale": 2.5, "references": [""]}
    assert found.images == {"references/0": f"{PICTURE} [output]"}
    assert found.outputs == ("11",)  # the preview shows what was sent
    assert found.size is not None
    assert (found.size.name, found.size.size_px((1000, 1400))) == (f"{PICTURE} [output]", (880, 1184))
    assert found.places["width_px"] == ("20", "image")
    of_its_own = changed(kontext_template(), "42", pixels=["21", 0])
    assert (size := translated(of_its_own).size) is not None
    assert size.size_px((1000, 1400)) == (1000, 1400)


def test_kontext_does_not_join_images_nor_start_from_a_part_of_one() -> None:
    joined = kontext_template(image2=["44", 0]) | {"44": node("LoadImage", image=OTHER)}
    assert "image2: is a second image, and they are not joined here" in wrong_with(joined)["21"][0]
    part = changed(kontext_template(), "9", denoise=0.5)
    assert "must be LoadImage" in wrong_with(part)["42"][0]
    assert translated(changed(part, "42", pixels=["20", 0])).fields["strength"] == 0.5  # which the model then refuses
