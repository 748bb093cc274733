"""What a pipeline's folder is, as diffusers saves one: a list of parts, and a folder for each.

Also a checkpoint in one file, with the configurations of its parts in folders beside it.
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dreamforge.contracts.models.model_files import DOCUMENTS, is_kind_of_model
from dreamforge.runtime.storage import checkpoint_layout
from dreamforge.runtime.storage.model_facts import (
    ModelFacts,
    ModelUnusable,
    WeightSize,
    read_json,
    read_whole_header,
    size_of,
)
from dreamforge.runtime.storage.pipeline_class import (
    INDEX_NAME,
    check_left_out,
    family_of,
    is_distilled,
    modes_of,
    side_px_of,
)
from dreamforge.runtime.storage.quantised import (
    GGUF,
    class_problem,
    eight_bit_saved_bytes,
    gguf_tensors,
    network_file,
    quantiser_problem,
)
from dreamforge.runtime.storage.safetensors_header import SafetensorsHeader, TensorInfo
from dreamforge.runtime.storage.shard_lists import check_shard_lists
from dreamforge.runtime.storage.weight_variants import (
    PLAIN,
    WEIGHTS,
    PartWeights,
    choose_variant,
    part_weights,
    shard_index_of,
)

SAFETENSORS = ".safetensors"
SCHEDULER_NAME = "scheduler_config.json"
#: What a part is saved in besides weights, by the end of its class's name: any one of these sets.
FILES_OF_CLASS: dict[str, tuple[tuple[str, ...], ...]] = {
    "Scheduler": ((SCHEDULER_NAME,),),
    "Processor": (("preprocessor_config.json",), ("processor_config.json",)),
    "FeatureExtractor": (("preprocessor_config.json",),),
}
FILES_OF_TOKENIZER = (("tokenizer.json",), ("vocab.json", "merges.txt"), ("spiece.model",), ("tokenizer.model",))
#: A pipeline before the pipeline: what it makes of an image stands beside the prompt, as of an IP-Adapter.
REDUX = "FluxPriorReduxPipeline"
#: The name of a weight file, by the library of the part's class.
STEMS = {"diffusers": "diffusion_pytorch_model", "transformers": "model", "flux": "diffusion_pytorch_model"}
#: The first layer of a U-Net: its second axis is the channels that it reads.
FIRST_LAYER = "conv_in.weight"
#: What parts of a pipeline and the libraries of their classes are called; diffusers imports the library by its name.
PART_NAME = re.compile(r"[A-Za-z0-9_]{1,64}")


@dataclass(frozen=True, slots=True)
class Part:
    """One entry of model_index.json: a folder with an object of `class_name`."""

    folder: Path
    library: str
    class_name: str

    @property
    def name(self) -> str:
        """Its key in the list."""
        return self.folder.name

    @property
    def files_without_weights(self) -> tuple[tuple[str, ...], ...] | None:
        """The sets of files of which one is needed; None for a network."""
        if self.name.startswith("tokenizer"):
            return FILES_OF_TOKENIZER
        return next((sets for end, sets in FILES_OF_CLASS.items() if self.class_name.endswith(end)), None)

    @property
    def file_names(self) -> list[str]:
        """What lies in it, hidden files left out."""
        return [each.name for each in self.folder.iterdir() if each.is_file() and not each.name.startswith(".")]

    def refuse(self, reason: str, right: str = "copy or download the model again") -> ModelUnusable:
        """The error of this part."""
        return ModelUnusable(str(self.folder.parent), self.name, reason, right)


def inspect_pipeline(folder: Path) -> ModelFacts:
    """What the pipeline in a folder is. Errors: ModelUnusable, OSError."""
    index = read_json(folder / INDEX_NAME, INDEX_NAME)
    parts = tuple(parts_of(index, folder))
    networks = {part.name: part for part in parts if _is_network(part)}
    for part in parts:
        if (problem := class_problem(part.class_name)) is not None:
            raise part.refuse(*problem)
    if not networks:
        raise ModelUnusable(str(folder), INDEX_NAME, "lists no part with weights", "take the whole model")
    configurations = {name: read_json(part.folder / "config.json", name) for name, part in networks.items()}
    for name, configuration in configurations.items():
        if (problem := quantiser_problem(configuration)) is not None:
            raise networks[name].refuse(*problem)
    weights = read_weights(folder, networks)
    class_name = str(index.get("_class_name", ""))
    if class_name == REDUX:
        files = tuple(sorted((*_files(folder, parts), *weights.files)))
        return ModelFacts(folder, "ip_adapter", "flux", files, weights.part_sizes, variant=weights.variant or None)
    family, sure = family_of(class_name, configurations)
    check_left_out(folder, family, index)
    modes = modes_of(folder, class_name, configurations, weights.first_layer_channels)
    return ModelFacts(
        folder,
        "pipeline",
        family,
        tuple(sorted((*_files(folder, parts), *weights.files))),
        weights.part_sizes,
        is_family_sure=sure,
        modes=modes,
        variant=weights.variant or None,
        side_px=side_px_of(configurations),
        is_guidance_distilled=is_distilled(family, index, configurations, _scheduler_of(parts)),
        eight_bit_saved_bytes=weights.eight_bit_saved_bytes,
    )


def _scheduler_of(parts: tuple[Part, ...]) -> dict[str, Any]:  # Any: an open JSON object
    """The noise schedule's settings; empty where there is none."""
    paths = [part.folder / SCHEDULER_NAME for part in parts if part.name == "scheduler"]
    return read_json(paths[0], "scheduler") if paths and paths[0].is_file() else {}


def parts_of(index: dict[str, Any], folder: Path) -> Iterator[Part]:  # Any: an open JSON object
    """The parts that a model_index.json lists; those that are null are none.

    Errors: ModelUnusable for the name of a part that is none of a folder, and for a library that no part is of.
    """
    for name, value in index.items():
        if not name.startswith("_") and isinstance(value, list) and len(value) == 2 and all(value):
            library, right = str(value[0]), "take the model from where it was published"
            if PART_NAME.fullmatch(name) is None:
                raise ModelUnusable(str(folder), INDEX_NAME, f"lists a part named {name!r}", right)
            if PART_NAME.fullmatch(library) is None or library in sys.stdlib_module_names:
                raise ModelUnusable(str(folder), name, f"is of the library {library!r}, which has no parts", right)
            yield Part(folder / name, library, str(value[1]))


@dataclass(frozen=True, slots=True)
class PipelineWeights:
    """The weight files that are read: their names relative to the folder, their variant and their size."""

    files: tuple[str, ...]
    variant: str
    part_sizes: tuple[WeightSize, ...]
    first_layer_channels: int | None
    eight_bit_saved_bytes: int = 0


def read_weights(folder: Path, networks: dict[str, Part]) -> PipelineWeights:
    """The weights of all networks, each in one variant, or all in one file. Errors: ModelUnusable, OSError."""
    if (checkpoint := checkpoint_of(folder)) is not None:
        return _read_checkpoint(checkpoint)
    read = [_read_part(part) for part in networks.values()]
    variants = sorted({variant for _, variant, _ in read} - {PLAIN})
    named = [
        (files[0].partition("/")[0], tensors) for files, _, tensors in read if WEIGHTS.fullmatch(Path(files[0]).name)
    ]
    first = next((tensors.get(FIRST_LAYER) for (files, _, tensors) in read if files[0].startswith("unet/")), None)
    return PipelineWeights(
        tuple(name for files, _, _ in read for name in files),
        " and ".join(variants),
        tuple(size_of(tensors.values()) for _, _, tensors in read),
        first.shape[1] if first is not None and len(first.shape) > 1 else None,
        sum(eight_bit_saved_bytes(network, tensors) for network, tensors in named),
    )


def _read_part(part: Part) -> tuple[tuple[str, ...], str, dict[str, TensorInfo]]:
    """The weight files of one part, their variant, and the tensors in them. Errors: ModelUnusable, OSError."""
    check_shard_lists(part.folder, part.name)
    found = part_weights(part.file_names, STEMS.get(part.library, ""))
    if (variant := choose_variant(found.complete)) is None:
        if (name := network_file(part.name, part.file_names)) is not None:
            return (f"{part.name}/{name}",), PLAIN, _network_tensors(part, name)
        raise part.refuse(_why_no_weights(part, found))
    headers = {name: read_whole_header(part.folder / name, part.name) for name in found.complete[variant]}
    _check_shards(part, variant, headers)
    tensors = {key: tensor for header in headers.values() for key, tensor in header.tensors.items()}
    return tuple(f"{part.name}/{name}" for name in headers), variant, tensors


def _network_tensors(part: Part, name: str) -> dict[str, TensorInfo]:
    """Errors: ModelUnusable, OSError."""
    if not name.endswith(GGUF):
        tensors = read_whole_header(part.folder / name, part.name).tensors
        if (scaled := checkpoint_layout.scaled_tensor(tensors)) is not None:
            reason = f"has a file that is quantised with scales ({scaled}), which the renderer does not apply"
            raise part.refuse(reason, "take the same weights as float16, bfloat16, plain float8 or GGUF")
        return tensors
    try:
        return gguf_tensors(part.folder / name)
    except ValueError as error:
        raise part.refuse(f"has {name}, which is not a GGUF file: {error}") from None


def checkpoint_of(folder: Path) -> Path | None:
    """The one file at the top that holds what the parts below it have no weights for; None where they have all."""
    bare = [part for part in folder.glob("*/config.json") if not _has_weights(part.parent)]
    files = list(folder.glob(f"*{SAFETENSORS}"))
    return files[0] if bare and len(files) == 1 else None


def _has_weights(part: Path) -> bool:
    return any(each.suffix in (SAFETENSORS, GGUF) for each in part.iterdir())


def _read_checkpoint(path: Path) -> PipelineWeights:
    header = read_whole_header(path)
    if (part := checkpoint_layout.missing_part(header.tensors)) is not None:
        right = "take a checkpoint that has all parts, or the repository with a folder for each part"
        raise ModelUnusable(str(path), "", f"has no {part}", right)
    if (scaled := checkpoint_layout.scaled_tensor(header.tensors)) is not None:
        right = "take the same weights as float16, bfloat16 or plain float8"
        raise ModelUnusable(str(path), scaled, "is a scale, which the renderer does not apply", right)
    sizes = tuple(size_of(tensors.values()) for tensors in checkpoint_layout.loaded_parts(header.tensors))
    return PipelineWeights((path.name,), "", sizes, checkpoint_layout.input_channels(header.tensors))


def _is_network(part: Part) -> bool:
    """Whether a part has weights. Errors: ModelUnusable where files of it are missing or unreadable."""
    if not part.folder.is_dir():
        raise part.refuse(f"is missing, but {INDEX_NAME} lists it")
    sets, have = part.files_without_weights, set(part.file_names)
    if sets is None:
        if "config.json" not in have:
            raise part.refuse("has no config.json")
        return True
    if not any(have.issuperset(needed) for needed in sets):
        raise part.refuse("has no " + " or ".join(" and ".join(needed) for needed in sets))
    for name in sorted(have):
        if name.endswith("_config.json"):
            read_json(part.folder / name, part.name)
    return False


def _why_no_weights(part: Part, found: PartWeights) -> str:
    if found.incomplete:
        return "; ".join(found.incomplete.values())
    needed = f"{STEMS.get(part.library, 'model')}{SAFETENSORS}"
    others = sorted(name for name in part.file_names if name.endswith((SAFETENSORS, ".bin")))
    return f"has no {needed}" + (f" (it has {', '.join(others)})" if others else "")


def _check_shards(part: Part, variant: str, headers: dict[str, SafetensorsHeader]) -> None:
    """Errors: ModelUnusable if a shard lacks tensors that the list of shards says it has."""
    name = shard_index_of(part.file_names, variant)
    if len(headers) < 2 or name is None:
        return
    listed = read_json(part.folder / name, part.name).get("weight_map")
    for key, file in listed.items() if isinstance(listed, dict) else ():
        if file not in headers or key not in headers[file].tensors:
            raise part.refuse(f"has no tensor {key} in {file}, where {name} says it is")


def _files(folder: Path, parts: tuple[Part, ...]) -> Iterator[str]:
    """The files besides weights that loading reads, and what people want to keep."""
    yield INDEX_NAME
    yield from (each.name for each in folder.iterdir() if each.is_file() and _is_document(each.name))
    for part in parts:
        for name in part.file_names:
            if name.endswith((".json", ".txt", ".model", ".jinja")) and ".bin." not in name:
                yield f"{part.name}/{name}"


def _is_document(name: str) -> bool:
    return name.upper().startswith(DOCUMENTS) and is_kind_of_model(name)
