"""What a model's files are and can do, read from headers and configurations before anything is loaded.

One reader for all who ask: `models add` and `models download`, a runner's look at its disk, the choice of a variant and
the estimate of memory. It imports no torch, reads no weights, and takes about 10 ms a folder.
"""

from pathlib import Path
from typing import Any

from dreamforge.contracts.models.descriptor import Kind, Mode
from dreamforge.runtime.storage import checkpoint_layout, embedding_layout, ip_adapter_layout, lora_layout, vae_layout
from dreamforge.runtime.storage.model_facts import ModelFacts, ModelUnusable, read_json, read_whole_header, size_of
from dreamforge.runtime.storage.pipeline_class import INDEX_NAME
from dreamforge.runtime.storage.pipeline_folder import Part, inspect_pipeline, read_weights
from dreamforge.runtime.storage.safetensors_header import SafetensorsHeader
from dreamforge.runtime.storage.shard_lists import check_shard_lists
from dreamforge.runtime.storage.upscaler_layout import UpscalerLayout, upscaler_layout
from dreamforge.runtime.storage.weight_variants import choose_variant, part_weights

SAFETENSORS = ".safetensors"
#: What diffusers calls the file when it saves a LoRA.
LORA_NAME = "pytorch_lora_weights.safetensors"
#: Networks that are registered alone, by their classes.
KIND_OF_CLASS: dict[str, Kind] = {
    "ControlNetModel": "controlnet",
    "T2IAdapter": "controlnet",
    "AutoencoderKL": "vae",
    "AutoencoderTiny": "vae",
}
#: The family of a T2I-Adapter, by its type: those of Stable Diffusion and SDXL are as wide.
FAMILY_OF_ADAPTER_TYPE = {
    "full_adapter": "stable-diffusion",
    "light_adapter": "stable-diffusion",
    "full_adapter_xl": "stable-diffusion-xl",
}
#: What other classes with such a word in their names could be taken for.
ALIKE = {"ControlNet": "ControlNetModel", "Autoencoder": "AutoencoderKL"}
ARTICLE = {"ControlNetModel": "a ControlNet", "AutoencoderKL": "a VAE"}
DIFFUSERS_STEM = "diffusion_pytorch_model"
#: Channels that the U-Net of a checkpoint reads: latents, and for inpainting also a mask and masked latents.
LATENTS, LATENTS_AND_MASK = 4, 9
#: The repositories with the configurations of a checkpoint, by family and channels.
#: Source: those that diffusers takes by default (`DIFFUSERS_DEFAULT_PIPELINE_PATHS`).
CONFIGURATIONS = {
    ("stable-diffusion", LATENTS): "stable-diffusion-v1-5/stable-diffusion-v1-5",
    ("stable-diffusion", LATENTS_AND_MASK): "stable-diffusion-v1-5/stable-diffusion-inpainting",
    ("stable-diffusion-2", LATENTS): "stabilityai/stable-diffusion-2-1",
    ("stable-diffusion-2", LATENTS_AND_MASK): "stabilityai/stable-diffusion-2-inpainting",
    ("stable-diffusion-xl", LATENTS): "stabilityai/stable-diffusion-xl-base-1.0",
    ("stable-diffusion-xl", LATENTS_AND_MASK): "diffusers/stable-diffusion-xl-1.0-inpainting-0.1",
    ("stable-diffusion-3", None): "stabilityai/stable-diffusion-3.5-medium",
    ("flux", None): "black-forest-labs/FLUX.1-dev",
}


def inspect_model(path: Path) -> ModelFacts:
    """What the files of a folder, or a single file, are. Blocking.

    Errors: ModelUnusable with the part, the reason and what would be right; OSError.
    """
    if path.is_file():
        return inspect_file(path)
    folder = snapshot_of(path)
    if (folder / INDEX_NAME).is_file():
        return inspect_pipeline(folder)
    if (folder / "config.json").is_file():
        return _inspect_part(folder)
    return _inspect_loose_files(folder)


#: Beginnings of files of other formats: what they are, and what to do.
OTHER_FORMATS = {
    b"GGUF": (
        "is a GGUF file, the quantised transformer of a pipeline",
        "put it into the folder `transformer` of the whole pipeline in place of the weights there, and add that folder",
    ),
    b"PK\x03\x04": ("is a pickle: reading it runs whatever code it holds", "take the same weights as .safetensors"),
    b"\x80\x02": ("is a pickle: reading it runs whatever code it holds", "take the same weights as .safetensors"),
    b"version https://git-lfs": ("is only a pointer of Git LFS", "fetch the file itself with `git lfs pull`"),
}


def refuse_other_formats(path: Path) -> None:
    """Errors: ModelUnusable for a file of weights in a format that is not read, whatever its name says; OSError."""
    with path.open("rb") as file:
        start = file.read(32)
    for mark, (reason, right) in OTHER_FORMATS.items():
        if start.startswith(mark):
            raise ModelUnusable(str(path), "", reason, right)


def snapshot_of(folder: Path) -> Path:
    """The files of a repository where `folder` is its place in the hub's cache; else the folder itself.

    Errors: ModelUnusable if the cache has several revisions and does not say which is the current one.
    """
    snapshots = folder / "snapshots"
    if not snapshots.is_dir() or (folder / INDEX_NAME).exists():
        if listed := ", ".join(sorted(each.name for each in folder.glob("models--*"))):
            raise ModelUnusable(str(folder), "", "is the cache of a hub", f"name one of its folders: {listed}")
        return folder
    found = sorted(each for each in snapshots.iterdir() if each.is_dir())
    main = folder / "refs" / "main"
    if main.is_file():
        current = snapshots / main.read_text().strip()
        found = [current] if current.is_dir() else found
    if len(found) != 1:
        names = ", ".join(f"snapshots/{each.name}" for each in found) or "it has none"
        raise ModelUnusable(str(folder), "", "is a hub's cache without a current revision", f"name a revision: {names}")
    return found[0]


def lora_file(folder: Path) -> Path:
    """The one file of a LoRA's folder. Errors: ModelUnusable where it has none or several."""
    files = sorted(folder.glob(f"*{SAFETENSORS}"))
    usual = [each for each in files if each.name == LORA_NAME]
    if len(found := usual or files) == 1:
        return found[0]
    if not found:
        below = {each.parent.name for name in (INDEX_NAME, f"*{SAFETENSORS}") for each in folder.glob(f"*/{name}")}
        one = f"name one of the folders in it: {', '.join(sorted(below))}"
        right = one if below else "name the file or the folder of a model"
        raise ModelUnusable(str(folder), "", "has no safetensors file", right)
    names = ", ".join(each.name for each in found)
    right = "a LoRA is one file: choose one, and name it"
    raise ModelUnusable(str(folder), "", f"has {len(found)} safetensors files: {names}", right)


def inspect_file(path: Path) -> ModelFacts:
    """What a single safetensors file is. Errors: ModelUnusable, OSError."""
    refuse_other_formats(path)
    return facts_of_header(read_whole_header(path), path)


def facts_of_header(header: SafetensorsHeader, path: Path) -> ModelFacts:
    """What a file with this header is; `path` names it in errors. Errors: ModelUnusable."""
    names = header.tensors.keys()
    if (scaled := checkpoint_layout.scaled_tensor(names)) is not None:
        reason = f"is quantised with scales ({scaled}), which the renderer does not apply"
        raise ModelUnusable(str(path), "", reason, "take the same weights as float16, bfloat16 or plain float8")
    if ip_adapter_layout.is_ip_adapter(names):
        raise _without_encoder(path)
    if lora_layout.is_lora(names):
        return _lora(header, path)
    if checkpoint_layout.is_checkpoint(names):
        return _checkpoint(header, path)
    shapes = {name: each.shape for name, each in header.tensors.items()}
    if (family := embedding_layout.embedding_family(shapes)) is not None:
        sizes = (size_of(header.tensors.values()),)
        return ModelFacts(path.parent, "embedding", family, (path.name,), sizes, metadata=header.metadata)
    if vae_layout.is_vae(names):
        # Its weights do not say which latents it is for: those of Stable Diffusion and of SDXL have the same shapes.
        sizes = (size_of(header.tensors.values()),)
        return ModelFacts(path.parent, "vae", None, (path.name,), sizes, is_family_sure=False, metadata=header.metadata)
    if (layout := upscaler_layout(shapes)) is not None:
        return _upscaler(layout, header, path)
    known = "a folder with a model_index.json, a checkpoint, a LoRA, a VAE, an embedding, an upscaler"
    right = f"take {known} or a ControlNet's folder"
    raise ModelUnusable(str(path), "", f"is {checkpoint_layout.other_content(names)}", right)


def _lora(header: SafetensorsHeader, path: Path) -> ModelFacts:
    names = header.tensors.keys()
    if (layout := lora_layout.unread_format(names)) is not None:
        right = "take a plain LoRA, or merge it into a checkpoint with the tools of its trainer"
        raise ModelUnusable(str(path), "", f"is in the format {layout}, of which the renderer reads no part", right)
    if (single := lora_layout.without_partner(names)) is not None:
        raise ModelUnusable(str(path), single, "has no partner in the file", "take the whole LoRA")
    family = lora_layout.lora_family(header)
    sizes = (size_of(header.tensors.values()),)
    return ModelFacts(
        path.parent, "lora", family, (path.name,), sizes, is_family_sure=family is not None, metadata=header.metadata
    )


def _checkpoint(header: SafetensorsHeader, path: Path) -> ModelFacts:
    names = header.tensors.keys()
    if (part := checkpoint_layout.missing_part(names)) is not None:
        right = "take a checkpoint that has all parts, or the repository with a folder for each part"
        raise ModelUnusable(str(path), "", f"has no {part}", right)
    if (family := checkpoint_layout.checkpoint_family(names)) is None:
        right = "take one of Stable Diffusion 1 or 2, SDXL, Stable Diffusion 3 or FLUX"
        raise ModelUnusable(str(path), "", "is a checkpoint of no family that the renderer knows", right)
    channels = checkpoint_layout.input_channels(header.tensors)
    if (configuration := CONFIGURATIONS.get((family, channels))) is None:
        right = "take one that reads a prompt, or one for inpainting"
        raise ModelUnusable(str(path), "U-Net", f"reads {channels} channels, which no render gives it", right)
    sizes = tuple(size_of(tensors.values()) for tensors in checkpoint_layout.loaded_parts(header.tensors))
    modes: tuple[Mode, ...] = ("inpaint",) if channels == LATENTS_AND_MASK else ("text", "image", "inpaint")
    return ModelFacts(
        path.parent,
        "pipeline",
        family,
        (path.name,),
        sizes,
        modes=modes,
        configuration=configuration,
        metadata=header.metadata,
    )


def _upscaler(layout: UpscalerLayout | str, header: SafetensorsHeader, path: Path) -> ModelFacts:
    if isinstance(layout, str):
        right = "take one of the ESRGAN family (RRDBNet, or the compact network of Real-ESRGAN)"
        raise ModelUnusable(str(path), "", layout, right)
    sizes = (size_of(header.tensors.values()),)
    return ModelFacts(
        path.parent, "upscaler", "esrgan", (path.name,), sizes, metadata=header.metadata, scale=layout.scale
    )


def _inspect_part(folder: Path) -> ModelFacts:
    """A folder with the configuration of one network: a ControlNet, a VAE, or a part that is nothing alone."""
    configuration = read_json(folder / "config.json", "config.json")
    name = str(configuration.get("_class_name") or configuration.get("model_type") or "unknown")
    if name not in KIND_OF_CLASS:
        reads = next((each for word, each in ALIKE.items() if word in name), None)
        kind = f"is {ARTICLE[reads]} of another kind" if reads else "is one part of a pipeline"
        right = f"the renderer reads {reads}" if reads else "name the folder of the whole"
        raise ModelUnusable(str(folder), "", f"{kind} ({name})", right)
    check_shard_lists(folder, "weights")
    weights = part_weights((each.name for each in folder.iterdir()), DIFFUSERS_STEM)
    variant = choose_variant(weights.complete)
    if variant is None:
        reason = "; ".join(weights.incomplete.values()) or f"has no {DIFFUSERS_STEM}{SAFETENSORS}"
        raise ModelUnusable(str(folder), "weights", reason, "copy or download it again")
    names = weights.complete[variant]
    tensors = [tensor for each in names for tensor in read_whole_header(folder / each).tensors.values()]
    # An AutoencoderTiny reads latents as the denoiser has them, which looks the same in every family.
    family = None if name == "AutoencoderTiny" else _family_of_part(configuration, KIND_OF_CLASS[name])
    files = ("config.json", *names, *(each.name for each in folder.glob(f"*{SAFETENSORS}*.index*.json")))
    return ModelFacts(
        folder,
        KIND_OF_CLASS[name],
        family,
        tuple(sorted(files)),
        (size_of(tensors),),
        is_family_sure=family is not None,
        variant=variant or None,
    )


def _family_of_part(configuration: dict[str, Any], kind: Kind) -> str | None:  # Any: an open JSON object
    """Of a ControlNet by the width of its texts, of a T2I-Adapter by its type, of a VAE by its latents."""
    if kind == "vae":
        channels, scale = (configuration.get(name, usual) for name, usual in vae_layout.DEFAULT_LATENTS.items())
        known = isinstance(channels, int) and isinstance(scale, float)
        return vae_layout.FAMILY_OF_LATENTS.get((channels, scale)) if known else None
    if (adapter_type := configuration.get("adapter_type")) is not None:
        return FAMILY_OF_ADAPTER_TYPE.get(adapter_type)
    width = configuration.get("cross_attention_dim")
    return lora_layout.FAMILY_OF_TEXT_WIDTH.get(width) if isinstance(width, int) else None


def _inspect_loose_files(folder: Path) -> ModelFacts:
    """A safetensors file and no configuration: what is one file; of a checkpoint the file itself must be named."""
    path = lora_file(folder)
    if (folder / ip_adapter_layout.ENCODER).is_dir():
        return _ip_adapter(path)
    facts = inspect_file(path)
    if facts.kind == "pipeline":
        right = f"add the file itself, {path.name}: `models add` finds the configurations that go with it"
        raise ModelUnusable(str(folder), path.name, "is a checkpoint without the configurations of its parts", right)
    return facts


def _ip_adapter(path: Path) -> ModelFacts:
    """An IP-Adapter with its image encoder beside it. Errors: ModelUnusable, OSError."""
    refuse_other_formats(path)
    header, encoder = read_whole_header(path), ip_adapter_layout.ENCODER
    if not ip_adapter_layout.is_ip_adapter(header.tensors):
        right = f"an {encoder} belongs to an IP-Adapter: take one, or leave the encoder out"
        raise ModelUnusable(str(path), "", f"is {checkpoint_layout.other_content(header.tensors)}", right)
    if ip_adapter_layout.reads_of(header.tensors) is None:
        reason = "is an IP-Adapter for faces (FaceID), which reads what another network finds in an image"
        raise ModelUnusable(str(path), "", reason, "take one that reads the image itself: plain, plus, or full-face")
    if not (path.parent / encoder / "config.json").is_file():
        raise ModelUnusable(str(path.parent), encoder, "has no config.json", "copy or download it again")
    weights = read_weights(path.parent, {encoder: Part(path.parent / encoder, "transformers", "image encoder")})
    family = ip_adapter_layout.ip_adapter_family({name: each.shape for name, each in header.tensors.items()})
    return ModelFacts(
        path.parent,
        "ip_adapter",
        family,
        tuple(sorted((path.name, f"{encoder}/config.json", *weights.files))),
        (size_of(header.tensors.values()), *weights.part_sizes),
        is_family_sure=family is not None,
        variant=weights.variant or None,
        metadata=header.metadata,
    )


def _without_encoder(path: Path) -> ModelUnusable:
    encoder = ip_adapter_layout.ENCODER
    right = f"put it into a folder of its own with the folder {encoder} of its publisher, and name that folder"
    return ModelUnusable(str(path), "", "is an IP-Adapter without the image encoder that it was trained with", right)


def lone_file(folder: Path) -> Path | None:
    """The only safetensors file of a folder without any configuration; None where there is another number of them."""
    files = list(folder.glob(f"*{SAFETENSORS}"))
    described = any((folder / name).exists() for name in (INDEX_NAME, "config.json", ip_adapter_layout.ENCODER))
    return files[0] if len(files) == 1 and not described else None
