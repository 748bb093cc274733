"""Tiny LoRAs, ControlNets, VAEs, IP-Adapters and upscalers for the tiny pipelines, from fixed seeds.

    python -m runner_testkit.assets FOLDER

makes in FOLDER the tiny model, a ControlNet and an IP-Adapter for it, and a tiny FLUX Kontext, with the descriptors by
which a runner finds them.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.pipelines.flux.modeling_flux import ReduxImageEncoder
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection, SiglipVisionConfig, SiglipVisionModel

from dreamforge.contracts.models.descriptor import Kind, ModelDescriptor
from dreamforge.contracts.models.family_defaults import addition_vram_of
from dreamforge.gpu_runner.rendering.features.t2i_adapter import XL_TYPE
from dreamforge.gpu_runner.rendering.upscaler_nets import network_of
from dreamforge.runtime.storage.model_folder import DESCRIPTOR_NAME, model_digest
from dreamforge.runtime.storage.upscaler_layout import RrdbLayout
from runner_testkit.families import build_family, ensure_family

RANK = 4
#: Attention's own projections, by the name that all families share.
LORA_LAYERS = ("to_q", "to_k", "to_v")
#: The same of CLIP.
TEXT_LAYERS = ("q_proj", "k_proj", "v_proj")
LORA_SEED, CONTROLNET_SEED, VAE_SEED, UPSCALER_SEED = 20_260_102, 20_260_103, 20_260_104, 20_260_105
ADAPTER_SEED = 20_260_106
#: Of a tiny image encoder: the side of its image, the width of its layers, and that of its answer.
SEEN_PX, SEEN_WIDTH, SEEN_DIM = 28, 16, 24
#: Large enough that a picture of 64 pixels shows it.
NOISE = 0.2


def ensure_lora(cache_folder: Path, family: str) -> Path:
    """The folder of a LoRA for a family's tiny model, built if it is not there yet."""
    return _ensured(cache_folder, f"tiny-lora-{family}-v1", lambda folder: _save_lora(folder, family))


def ensure_other_lora(cache_folder: Path, family: str, rank: int, layers: tuple[str, ...] = ("to_q", "to_v")) -> Path:
    """The same of another rank, in layers whose names end so."""
    name = f"tiny-lora-{family}-{rank}-{'-'.join(layers)}-v1"
    return _ensured(cache_folder, name, lambda folder: _save_lora(folder, family, rank=rank, names=layers))


def ensure_whole_lora(cache_folder: Path, family: str) -> Path:
    """The same with layers in the first text encoder too."""
    return _ensured(cache_folder, f"tiny-whole-lora-{family}-v1", lambda folder: _save_lora(folder, family, text=True))


def ensure_controlnet(cache_folder: Path, family: str) -> Path:
    """The folder of a ControlNet for a family's tiny model (SD, SDXL), built if it is not there yet."""
    return _ensured(cache_folder, f"tiny-controlnet-{family}-v1", lambda folder: _save_controlnet(folder, family))


def ensure_vae(cache_folder: Path, family: str) -> Path:
    """The folder of another VAE for a family's tiny model, built if it is not there yet."""
    return _ensured(cache_folder, f"tiny-vae-{family}-v1", lambda folder: _save_vae(folder, family))


def ensure_tiny_autoencoder(cache_folder: Path, family: str) -> Path:
    """The folder of a distilled VAE for a family's tiny model, built if it is not there yet."""
    return _ensured(cache_folder, f"tiny-taesd-{family}-v1", lambda folder: _save_tiny_autoencoder(folder, family))


def ensure_upscaler(cache_folder: Path, scale: int) -> Path:
    """The folder of an upscaler of the ESRGAN family (scale 2 or 4), built if it is not there yet."""
    return _ensured(cache_folder, f"tiny-upscaler-x{scale}-v1", lambda folder: _save_upscaler(folder, scale))


def ensure_ip_adapter(cache_folder: Path, family: str, reads: str = "image") -> Path:
    """The folder of an IP-Adapter for a family's tiny model (SD, SDXL) that reads the image or its patches."""
    return _ensured(
        cache_folder, f"tiny-ip-adapter-{reads}-{family}-v1", lambda folder: _save_ip_adapter(folder, family, reads)
    )


def ensure_redux(cache_folder: Path) -> Path:
    """The folder of a FLUX Redux for the tiny model."""
    return _ensured(cache_folder, "tiny-redux-v1", _save_redux)


def _save_redux(folder: Path) -> None:
    pipeline: Any = build_family("flux")  # Any: as below
    settings: dict[str, Any] = {"hidden_size": SEEN_WIDTH, "intermediate_size": 2 * SEEN_WIDTH, "num_hidden_layers": 1}
    shape: dict[str, Any] = {"num_attention_heads": 2, "image_size": SEEN_PX, "patch_size": SEEN_PX // 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(ADAPTER_SEED)
        encoder = SiglipVisionModel(SiglipVisionConfig(**settings, **shape))
        words = pipeline.transformer.config.joint_attention_dim
        embedder: Any = ReduxImageEncoder(redux_dim=SEEN_WIDTH, txt_in_features=words)
        _disturb(embedder.parameters())
    encoder.save_pretrained(str(folder / "image_encoder"), safe_serialization=True)
    embedder.save_pretrained(str(folder / "image_embedder"), safe_serialization=True)
    parts = {
        "image_encoder": ["transformers", "SiglipVisionModel"],
        "image_embedder": ["flux", "ReduxImageEncoder"],
        "feature_extractor": ["transformers", "SiglipImageProcessor"],
        "text_encoder": [None, None],
    }
    (folder / "feature_extractor").mkdir()
    (folder / "feature_extractor" / "preprocessor_config.json").write_text("{}")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "FluxPriorReduxPipeline", **parts}))


def ensure_t2i_adapter(cache_folder: Path, family: str = "stable-diffusion") -> Path:
    """The folder of a T2I-Adapter for a family's tiny model, which reads maps without colours."""
    return _ensured(cache_folder, f"tiny-t2i-adapter-{family}-v1", lambda folder: _save_t2i_adapter(folder, family))


def _save_t2i_adapter(folder: Path, family: str) -> None:
    """For SDXL as their trainers make them: a level more, for the middle, and half as large from the start."""
    pipeline: Any = build_family(family)  # Any: as below
    channels, factor = list(pipeline.unet.config.block_out_channels), pipeline.vae_scale_factor
    if family.startswith("sdxl"):
        shape = {"channels": [*channels, channels[-1]], "downscale_factor": 2 * factor, "adapter_type": XL_TYPE}
    else:
        shape = {"channels": channels, "downscale_factor": factor}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(ADAPTER_SEED)
        of_t2i: Any = diffusers.T2IAdapter
        adapter = of_t2i(in_channels=1, num_res_blocks=1, **shape)
    adapter.save_pretrained(str(folder), safe_serialization=True)


def _save_ip_adapter(folder: Path, family: str, reads: str) -> None:
    """As their trainers write them: layers are numbered by two, because every other one reads no text."""
    pipeline: Any = build_family(family)  # Any: as below
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(ADAPTER_SEED)
        image_encoder().save_pretrained(str(folder / "image_encoder"), safe_serialization=True)
        texts = pipeline.unet.config.cross_attention_dim
        if reads == "image":
            projection = {"proj.weight": (4 * texts, SEEN_DIM), "proj.bias": (4 * texts,)}
        else:
            projection = {
                "proj.0.weight": (SEEN_WIDTH, SEEN_WIDTH), "proj.0.bias": (SEEN_WIDTH,),
                "proj.2.weight": (texts, SEEN_WIDTH), "proj.2.bias": (texts,),
            }  # fmt: skip
        tensors = {f"image_proj.{name}": torch.randn(shape) for name, shape in projection.items()}
        norm = "norm" if reads == "image" else "proj.3"
        tensors |= {f"image_proj.{norm}.weight": torch.ones(texts), f"image_proj.{norm}.bias": torch.zeros(texts)}
        readers = [each for name, each in pipeline.unet.named_modules() if name.endswith("attn2")]
        order = [name for name in pipeline.unet.attn_processors if name.endswith("attn2.processor")]
        modules = {f"{name}.processor": each for name, each in pipeline.unet.named_modules()}
        assert len(readers) == len(order)
        for number, name in enumerate(order):
            shape = modules[name].to_k.weight.shape
            for layer in ("to_k_ip", "to_v_ip"):
                tensors[f"ip_adapter.{2 * number + 1}.{layer}.weight"] = torch.randn(shape) * NOISE
    save_file(tensors, folder / "adapter.safetensors")


def image_encoder() -> CLIPVisionModelWithProjection:
    """CLIP's, of one layer."""
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=SEEN_WIDTH,
            intermediate_size=2 * SEEN_WIDTH,
            projection_dim=SEEN_DIM,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=SEEN_PX,
            patch_size=SEEN_PX // 2,
        )
    )


def _save_vae(folder: Path, family: str) -> None:
    pipeline: Any = build_family(family)  # Any: as below
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(VAE_SEED)
        _disturb(pipeline.vae.decoder.conv_out.parameters())
    pipeline.vae.save_pretrained(str(folder), safe_serialization=True)


def _save_tiny_autoencoder(folder: Path, family: str) -> None:
    own: Any = build_family(family).components["vae"]  # Any: as below
    stages = len(own.config.block_out_channels)
    sizes = {"encoder_block_out_channels": (8,) * stages, "decoder_block_out_channels": (8,) * stages}
    blocks = {"num_encoder_blocks": (1,) * stages, "num_decoder_blocks": (1,) * stages}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(VAE_SEED)
        of_tiny: Any = diffusers.AutoencoderTiny
        made = of_tiny(latent_channels=own.config.latent_channels, **sizes, **blocks)
    made.save_pretrained(str(folder), safe_serialization=True)


def _save_upscaler(folder: Path, scale: int) -> None:
    layout = RrdbLayout(width=8, growth=4, blocks=1, doublings=2, fold=4 // scale, names={})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(UPSCALER_SEED)
        save_file(network_of(layout).state_dict(), folder / f"x{scale}.safetensors")


def _save_lora(
    folder: Path, family: str, *, text: bool = False, rank: int = RANK, names: tuple[str, ...] = LORA_LAYERS
) -> None:
    pipeline: Any = build_family(family)  # Any: U-Net or transformer, by family
    name = "unet" if "unet" in pipeline.components else "transformer"
    layers = {f"{name}_lora_layers": _lora_layers(pipeline.components[name], names, rank)}
    if text:
        layers["text_encoder_lora_layers"] = _lora_layers(pipeline.text_encoder, TEXT_LAYERS)
    type(pipeline).save_lora_weights(str(folder), **layers, safe_serialization=True)


def _lora_layers(
    model: Any, names: tuple[str, ...], rank: int = RANK
) -> Any:  # Any: diffusers' and transformers' classes and tensors
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(LORA_SEED)
        model.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=list(names)))
        _disturb(parameter for name, parameter in model.named_parameters() if "lora_" in name)
    utils: Any = diffusers.utils  # Any: it has no types
    return utils.convert_state_dict_to_diffusers(get_peft_model_state_dict(model))


def _save_controlnet(folder: Path, family: str) -> None:
    pipeline: Any = build_family(family)  # Any: as above
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(CONTROLNET_SEED)
        # Three levels halve three times, as the latents did.
        net: Any = diffusers.ControlNetModel.from_unet(
            pipeline.unet, conditioning_embedding_out_channels=(8, 16, 16, 32)
        )
        # Its last layers start at zero by design, and would change nothing.
        _disturb(parameter for name, parameter in net.named_parameters() if "controlnet" in name)
    net.save_pretrained(str(folder), safe_serialization=True)


def _disturb(parameters: Any) -> None:  # Any: an iterable of parameters
    with torch.no_grad():
        for parameter in parameters:
            parameter.copy_(torch.randn_like(parameter) * NOISE)


def _ensured(cache_folder: Path, name: str, save: Any) -> Path:  # Any: a function of a folder
    final = cache_folder / name
    if not final.is_dir():
        cache_folder.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=cache_folder))
        save(building)
        try:
            building.rename(final)
        except OSError:  # another process was first
            shutil.rmtree(building)
    return final


def describe(folder: Path, model_id: str, kind: Kind) -> None:
    """Write what a runner needs to find an asset for the tiny model."""
    weights_bytes = sum(each.stat().st_size for each in folder.rglob("*.safetensors"))
    descriptor = ModelDescriptor(
        model_id=model_id,
        family="stable-diffusion",
        kind=kind,
        digest=model_digest(folder),
        vram=addition_vram_of(weights_bytes),
    )
    (folder / DESCRIPTOR_NAME).write_text(descriptor.model_dump_json())


if __name__ == "__main__":
    models_dir = Path(sys.argv[1])
    first = ensure_family(models_dir, "stable-diffusion")
    # Folders are registered by their names, and what is registered first is the model of requests that name none.
    ensure_family(models_dir, "flux-kontext").rename(first.with_name(f"{first.name}-and-an-editor"))
    describe(ensure_controlnet(models_dir, "stable-diffusion"), "tiny-controlnet", "controlnet")
    describe(ensure_ip_adapter(models_dir, "stable-diffusion"), "tiny-ip-adapter", "ip_adapter")
