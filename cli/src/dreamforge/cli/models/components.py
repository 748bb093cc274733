"""Parts of a pipeline that other repositories or folders have: which of their files, and what the whole is. Pure."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from dreamforge.cli.models.partial_file import ExpectedFile
from dreamforge.cli.models.repository_files import CONFIGURATION_SUFFIXES, pipeline_files
from dreamforge.contracts.models.descriptor import ModelFile
from dreamforge.contracts.models.source import ModelComponent, ModelSource

#: Of a network, besides weights and lists of their shards. A repository of a language model has its tokenizer beside.
NETWORK_FILES = ("config.json", "generation_config.json")
SHARD_LIST = ".index."
#: Names and classes of parts without weights.
WITHOUT_WEIGHTS = ("tokenizer", "scheduler", "processor", "feature_extractor", "image_processor")


@dataclass(frozen=True, slots=True)
class ComponentFile:
    """A file of a component: what it becomes in the model's folder, and its path where it comes from."""

    expected: ExpectedFile
    source_path: str


def component_files(
    component: ModelComponent, listed: Iterable[ExpectedFile], variant: str = ""
) -> tuple[ComponentFile, ...]:
    """Of the files of a repository, those of the part. Errors: PickleRefused where its weights are only a pickle."""
    here = [
        replace(each, path=f"{component.name}/{PurePosixPath(each.path).name}")
        for each in listed
        if each.path.rpartition("/")[0] == component.subfolder
    ]
    has_weights = not component.name.startswith(WITHOUT_WEIGHTS)
    if not has_weights:
        here = [each for each in here if PurePosixPath(each.path).suffix in CONFIGURATION_SUFFIXES]
    chosen = pipeline_files(here, frozenset({component.name}), variant)
    return _located(component, [each for each in chosen if _is_network_file(each.path) == has_weights])


def pinned_component_files(component: ModelComponent, files: Iterable[ModelFile]) -> tuple[ComponentFile, ...]:
    """The files of a part whose list is pinned."""
    own = (each for each in files if each.path.startswith(f"{component.name}/"))
    return _located(component, [ExpectedFile(each.path, each.size_bytes, each.sha256) for each in own])


def without_components(source: ModelSource) -> ModelSource:
    """The source of what the model's own repository has."""
    names = tuple(f"{each.name}/" for each in source.components)
    own = tuple(each for each in source.files if not each.path.startswith(names))
    return source.model_copy(update={"files": own, "components": ()})


def completed_index(index: Mapping[str, Any], components: Sequence[ModelComponent]) -> bytes:  # Any: open JSON
    """The model_index.json of the whole. The same bytes for the same values: a descriptor may pin their hash.

    >>> part = dict(name="vae", library="diffusers", class_name="AutoencoderKL", location="a/b", licence="MIT")
    >>> completed_index({"vae": [None, None]}, [ModelComponent(**part)]).split()
    [b'{', b'"vae":', b'[', b'"diffusers",', b'"AutoencoderKL"', b']', b'}']
    """
    whole = {**index, **{each.name: [each.library, each.class_name] for each in components}}
    return (json.dumps(whole, indent=2) + "\n").encode()


def _is_network_file(path: str) -> bool:
    name = PurePosixPath(path).name
    return name.endswith(".safetensors") or name in NETWORK_FILES or SHARD_LIST in name


def _located(component: ModelComponent, files: Sequence[ExpectedFile]) -> tuple[ComponentFile, ...]:
    prefix, cut = component.subfolder + "/" if component.subfolder else "", len(component.name) + 1
    return tuple(ComponentFile(each, prefix + each.path[cut:]) for each in files)
