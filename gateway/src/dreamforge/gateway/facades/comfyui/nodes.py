"""The nodes that a workflow may have: what each takes and gives, declared once.

`object_info`, the checks of a graph and the list in the documents are made from these. Names, types, defaults and
bounds are those of ComfyUI's own nodes (nodes.py and comfy_extras of ComfyUI 0.3).
"""

from collections.abc import Mapping

from dreamforge.gateway.facades.comfyui.node_types import Input, NodeType, chosen_from, link, number, one_of, whole
from dreamforge.gateway.facades.comfyui.sampling_nodes import SAMPLING_NODES

# ComfyUI's own bound: MAX_RESOLUTION.
SIDE_MAX = 16_384
UPSCALE_METHODS = ("nearest-exact", "bilinear", "area", "bicubic", "bislerp")

_MODEL, _CLIP, _VAE, _LATENT, _IMAGE = map(link, ("MODEL", "CLIP", "VAE", "LATENT", "IMAGE"))
_MASK, _CONDITIONING, _CLIP_VISION = map(link, ("MASK", "CONDITIONING", "CLIP_VISION"))
_TEXT = Input("STRING", "")
_SIDE = whole(512, 16, SIDE_MAX)
_EMPTY = {"width": _SIDE, "height": _SIDE, "batch_size": whole(1, 1, 4096)}
_SHIFT = "`flow_shift`, of a model that follows a flow"
_SAME_MODEL = "must name the same model: its parts are not exchanged"

NODES: Mapping[str, NodeType] = {
    "CheckpointLoaderSimple": NodeType(
        "Load Checkpoint", "loaders", {"ckpt_name": chosen_from("models")}, ("MODEL", "CLIP", "VAE")
    ),
    "UNETLoader": NodeType(
        "Load Diffusion Model",
        "advanced/loaders",
        {"unet_name": chosen_from("models"), "weight_dtype": one_of("default")},
        ("MODEL",),
    ),
    "VAELoader": NodeType(
        "Load VAE",
        "loaders",
        {"vae_name": chosen_from("vaes")},
        ("VAE",),
        note="a VAE, or the model itself for its own; one for the whole workflow",
    ),
    "CLIPLoader": NodeType(
        "Load CLIP",
        "advanced/loaders",
        {"clip_name": chosen_from("models"), "type": Input("STRING", "stable_diffusion", optional=True)},
        ("CLIP",),
        note=_SAME_MODEL,
    ),
    "DualCLIPLoader": NodeType(
        "DualCLIPLoader",
        "advanced/loaders",
        {
            "clip_name1": chosen_from("models"),
            "clip_name2": chosen_from("models"),
            "type": Input("STRING", "sdxl", optional=True),
        },
        ("CLIP",),
        note=_SAME_MODEL,
    ),
    "TripleCLIPLoader": NodeType(
        "TripleCLIPLoader",
        "advanced/loaders",
        {"clip_name1": chosen_from("models"), "clip_name2": chosen_from("models"), "clip_name3": chosen_from("models")},
        ("CLIP",),
        note=_SAME_MODEL,
    ),
    "LoraLoader": NodeType(
        "Load LoRA",
        "loaders",
        {
            "model": _MODEL,
            "clip": _CLIP,
            "lora_name": chosen_from("loras"),
            "strength_model": number(1.0, -100.0, 100.0),
            "strength_clip": number(1.0, -100.0, 100.0),
        },
        ("MODEL", "CLIP"),
        note="the strengths of nodes with the same LoRA add up",
    ),
    "LoraLoaderModelOnly": NodeType(
        "LoraLoaderModelOnly",
        "loaders",
        {"model": _MODEL, "lora_name": chosen_from("loras"), "strength_model": number(1.0, -100.0, 100.0)},
        ("MODEL",),
        note="the text encoders stay as they are",
    ),
    "CLIPSetLastLayer": NodeType(
        "CLIP Set Last Layer", "conditioning", {"clip": _CLIP, "stop_at_clip_layer": whole(-1, -24, -1)}, ("CLIP",)
    ),
    "CLIPTextEncode": NodeType(
        "CLIP Text Encode (Prompt)",
        "conditioning",
        {"text": _TEXT, "clip": _CLIP},
        ("CONDITIONING",),
        note="`embedding:NAME` in the text is a registered embedding",
    ),
    "CLIPTextEncodeFlux": NodeType(
        "CLIPTextEncodeFlux",
        "advanced/conditioning/flux",
        {"clip": _CLIP, "clip_l": _TEXT, "t5xxl": _TEXT, "guidance": number(3.5, 0.0, 100.0)},
        ("CONDITIONING",),
        note="both texts must be the same",
    ),
    "CLIPTextEncodeSDXL": NodeType(
        "CLIPTextEncodeSDXL",
        "advanced/conditioning",
        {
            "width": whole(1024, 0, SIDE_MAX),
            "height": whole(1024, 0, SIDE_MAX),
            "crop_w": whole(0, 0, SIDE_MAX),
            "crop_h": whole(0, 0, SIDE_MAX),
            "target_width": whole(1024, 0, SIDE_MAX),
            "target_height": whole(1024, 0, SIDE_MAX),
            "text_g": _TEXT,
            "clip": _CLIP,
            "text_l": _TEXT,
        },
        ("CONDITIONING",),
        note="both texts must be the same; the sizes are that of the empty latent, and nothing is cropped",
    ),
    "CLIPTextEncodeSD3": NodeType(
        "CLIPTextEncodeSD3",
        "advanced/conditioning",
        {
            **{"clip": _CLIP, "clip_l": _TEXT, "clip_g": _TEXT, "t5xxl": _TEXT},
            "empty_padding": one_of("none", "empty_prompt"),
        },
        ("CONDITIONING",),
        note="all texts must be the same",
    ),
    "FluxGuidance": NodeType(
        "FluxGuidance",
        "advanced/conditioning/flux",
        {"conditioning": _CONDITIONING, "guidance": number(3.5, 0.0, 100.0)},
        ("CONDITIONING",),
        note="of models whose guidance is distilled; they take a cfg of 1",
    ),
    "ConditioningZeroOut": NodeType(
        "ConditioningZeroOut",
        "advanced/conditioning",
        {"conditioning": _CONDITIONING},
        ("CONDITIONING",),
        note="as the negative prompt of SDXL, or with a cfg of 1",
    ),
    "ModelSamplingFlux": NodeType(
        "ModelSamplingFlux",
        "advanced/model",
        {
            "model": _MODEL,
            "max_shift": number(1.15, 0.0, 100.0),
            "base_shift": number(0.5, 0.0, 100.0),
            "width": whole(1024, 16, SIDE_MAX),
            "height": whole(1024, 16, SIDE_MAX),
        },
        ("MODEL",),
        note="of FLUX, as the model has it: max_shift 1.15, base_shift 0.5, and the size of the empty latent",
    ),
    "ModelSamplingSD3": NodeType(
        "ModelSamplingSD3",
        "advanced/model",
        {"model": _MODEL, "shift": number(3.0, 0.01, 100.0)},
        ("MODEL",),
        note=_SHIFT,
    ),
    "ModelSamplingAuraFlow": NodeType(
        "ModelSamplingAuraFlow",
        "advanced/model",
        {"model": _MODEL, "shift": number(1.73, 0.01, 100.0)},
        ("MODEL",),
        note=_SHIFT,
    ),
    "ControlNetLoader": NodeType(
        "Load ControlNet Model", "loaders", {"control_net_name": chosen_from("controlnets")}, ("CONTROL_NET",)
    ),
    "ControlNetApply": NodeType(
        "Apply ControlNet (OLD)",
        "conditioning/controlnet",
        {
            "conditioning": _CONDITIONING,
            "control_net": link("CONTROL_NET"),
            "image": _IMAGE,
            "strength": number(1.0, 0.0, 10.0),
        },
        ("CONDITIONING",),
        note="on the positive prompt; may be chained",
    ),
    "ControlNetApplyAdvanced": NodeType(
        "Apply ControlNet",
        "conditioning/controlnet",
        {
            "positive": _CONDITIONING,
            "negative": _CONDITIONING,
            "control_net": link("CONTROL_NET"),
            "image": _IMAGE,
            "strength": number(1.0, 0.0, 10.0),
            "start_percent": number(0.0, 0.0, 1.0),
            "end_percent": number(1.0, 0.0, 1.0),
            "vae": Input("VAE", optional=True),
        },
        ("CONDITIONING", "CONDITIONING"),
        ("positive", "negative"),
        note="may be chained; start_percent and end_percent are shares of the steps",
    ),
    "StyleModelLoader": NodeType(
        "Load Style Model", "loaders", {"style_model_name": chosen_from("ip_adapters")}, ("STYLE_MODEL",)
    ),
    "CLIPVisionLoader": NodeType(
        "Load CLIP Vision",
        "loaders",
        {"clip_name": chosen_from("ip_adapters")},
        ("CLIP_VISION",),
        note="must name the same style model or IP-Adapter: it has its own",
    ),
    "CLIPVisionEncode": NodeType(
        "CLIP Vision Encode",
        "conditioning",
        {"clip_vision": _CLIP_VISION, "image": _IMAGE, "crop": one_of("center")},
        ("CLIP_VISION_OUTPUT",),
    ),
    "StyleModelApply": NodeType(
        "Apply Style Model",
        "conditioning/style_model",
        {
            "conditioning": _CONDITIONING,
            "style_model": link("STYLE_MODEL"),
            "clip_vision_output": link("CLIP_VISION_OUTPUT"),
            "strength": number(1.0, 0.0, 10.0),
            "strength_type": one_of("multiply"),
        },
        ("CONDITIONING",),
        note="an image prompt, as FLUX Redux; on the positive prompt; may be chained",
    ),
    "IPAdapterModelLoader": NodeType(
        "IPAdapter Model Loader", "ipadapter/loaders", {"ipadapter_file": chosen_from("ip_adapters")}, ("IPADAPTER",)
    ),
    "IPAdapterAdvanced": NodeType(
        "IPAdapter Advanced",
        "ipadapter",
        {
            "model": _MODEL,
            "ipadapter": link("IPADAPTER"),
            "image": _IMAGE,
            "weight": number(1.0, -1.0, 5.0),
            "weight_type": one_of("linear"),
            "combine_embeds": one_of("concat", "add", "subtract", "average", "norm average"),
            "start_at": number(0.0, 0.0, 1.0),
            "end_at": number(1.0, 0.0, 1.0),
            "embeds_scaling": one_of("V only"),
            "clip_vision": Input("CLIP_VISION", optional=True),
        },
        ("MODEL",),
        note="of the IPAdapter plus nodes; one image, so how several are combined does not matter; may be chained",
    ),
    "FluxKontextImageScale": NodeType(
        "FluxKontextImageScale",
        "advanced/conditioning/flux",
        {"image": _IMAGE},
        ("IMAGE",),
        note="before a reference, which the model scales by itself; a latent of it is of the size that it chooses",
    ),
    "ReferenceLatent": NodeType(
        "ReferenceLatent",
        "advanced/conditioning/edit_models",
        {"conditioning": _CONDITIONING, "latent": Input("LATENT", optional=True)},
        ("CONDITIONING",),
        note="of an encoded image: a reference image, in the order of the chain; on the positive prompt, or on both",
    ),
    "EmptyLatentImage": NodeType("Empty Latent Image", "latent", _EMPTY, ("LATENT",)),
    "EmptySD3LatentImage": NodeType("EmptySD3LatentImage", "latent/sd3", _EMPTY, ("LATENT",)),
    "LoadImage": NodeType(
        "Load Image",
        "image",
        {"image": chosen_from("images")},
        ("IMAGE", "MASK"),
        note="by the name that /upload/image has answered, or a finished image's",
    ),
    "LoadImageOutput": NodeType(
        "Load Image (from Outputs)",
        "image",
        {"image": chosen_from("images")},
        ("IMAGE", "MASK"),
        note="as LoadImage",
    ),
    "ImageStitch": NodeType(
        "Image Stitch",
        "image/transform",
        {"image1": _IMAGE, "image2": Input("IMAGE", optional=True)},
        ("IMAGE",),
        note="of one image, which it shows as it is; several are references of their own",
    ),
    "ImageInvert": NodeType("Invert Image", "image/color", {"image": _IMAGE}, ("IMAGE",), note="before a ControlNet"),
    "Canny": NodeType(
        "Canny",
        "image/preprocessors",
        {"image": _IMAGE, "low_threshold": number(0.4, 0.01, 0.99), "high_threshold": number(0.8, 0.01, 0.99)},
        ("IMAGE",),
        note="before a ControlNet; at the size of the render",
    ),
    "LoadImageMask": NodeType(
        "Load Image (as Mask)",
        "mask",
        {"image": chosen_from("images"), "channel": one_of("alpha", "red", "green", "blue")},
        ("MASK",),
        note="of a colour, the mask is expected to be grey",
    ),
    "VAEEncode": NodeType(
        "VAE Encode",
        "latent",
        {"pixels": _IMAGE, "vae": _VAE},
        ("LATENT",),
        note="of a model that only edits, with a denoise of 1: the size of the render",
    ),
    "VAEEncodeForInpaint": NodeType(
        "VAE Encode (for Inpainting)",
        "latent/inpaint",
        {"pixels": _IMAGE, "vae": _VAE, "mask": _MASK, "grow_mask_by": whole(6, 0, 64)},
        ("LATENT",),
    ),
    "SetLatentNoiseMask": NodeType(
        "Set Latent Noise Mask", "latent/inpaint", {"samples": _LATENT, "mask": _MASK}, ("LATENT",)
    ),
    **SAMPLING_NODES,
    "LatentUpscale": NodeType(
        "Upscale Latent",
        "latent",
        {
            "samples": _LATENT,
            "upscale_method": one_of(*UPSCALE_METHODS),
            "width": whole(512, 0, SIDE_MAX),
            "height": whole(512, 0, SIDE_MAX),
            "crop": one_of("disabled"),
        },
        ("LATENT",),
        note="before a second sampler, both sides by one factor; the decoded image is enlarged, whatever the method",
    ),
    "LatentUpscaleBy": NodeType(
        "Upscale Latent By",
        "latent",
        {"samples": _LATENT, "upscale_method": one_of(*UPSCALE_METHODS), "scale_by": number(1.5, 0.01, 8.0)},
        ("LATENT",),
        note="before a second sampler; the decoded image is enlarged, whatever the method",
    ),
    "VAEDecode": NodeType("VAE Decode", "latent", {"samples": _LATENT, "vae": _VAE}, ("IMAGE",)),
    "PreviewImage": NodeType(
        "Preview Image",
        "image",
        {"images": _IMAGE},
        shows_images=True,
        note="of an image that was loaded: shows nothing, beside an output that does",
    ),
    "SaveImage": NodeType(
        "Save Image",
        "image",
        {"images": _IMAGE, "filename_prefix": Input("STRING", "ComfyUI")},
        shows_images=True,
        note="the folders of the prefix are shown, and the names end in the id of the image",
    ),
}
