"""Which files of a repository its pipeline reads. Pure."""

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from dreamforge.cli.models.partial_file import ExpectedFile
from dreamforge.contracts.models.descriptor_file import PickleRefused, is_pickle

INDEX = "model_index.json"
SAFETENSORS = ".safetensors"
#: What a pipeline reads besides its weights: configurations, vocabularies, SentencePiece models.
CONFIGURATION_SUFFIXES = frozenset({".json", ".txt", ".model"})
#: File names of diffusers and transformers: NAME(.VARIANT)(-00001-of-00002)(.VARIANT).safetensors
WEIGHTS = re.compile(
    r"(?:model|diffusion_pytorch_model)(?:\.(?P<before>\w+))?(?:-\d+-of-\d+)?(?:\.(?P<after>\w+))?\.safetensors"
)


def pipeline_files(
    listed: Iterable[ExpectedFile], parts: frozenset[str] | None, variant: str = ""
) -> tuple[ExpectedFile, ...]:
    """The files that the pipeline of a repository reads.

    `parts`: its folders; None if the repository is not a pipeline, then the files at the top. Weights are those of
    `variant` if every part has them, else those without a variant in their name.
    Errors: PickleRefused for a part that has its weights only as a pickle.
    """
    own = [each for each in listed if _belongs(each.path, parts)]
    weights = [each for each in own if each.path.endswith(SAFETENSORS)]
    _refuse_only_pickles(own, weights)
    folders = {_folder_of(each) for each in weights}
    chosen = [each for each in weights if variant and _variant(each) == variant]
    if not variant or {_folder_of(each) for each in chosen} != folders:
        chosen = [each for each in weights if _variant(each) == ""]
    others = [each for each in own if _is_configuration(each) and ".bin." not in each.path]
    return tuple(sorted((*chosen, *others), key=lambda each: each.path))


def configuration_files(listed: Iterable[ExpectedFile], parts: frozenset[str]) -> tuple[ExpectedFile, ...]:
    """The files of a pipeline other than weights and lists of shards."""
    own = [each for each in listed if _belongs(each.path, parts) and _is_configuration(each)]
    return tuple(sorted((each for each in own if ".index." not in each.path), key=lambda each: each.path))


def _is_configuration(file: ExpectedFile) -> bool:
    return PurePosixPath(file.path).suffix in CONFIGURATION_SUFFIXES


def _belongs(path: str, parts: frozenset[str] | None) -> bool:
    folder, slash, name = path.rpartition("/")
    if name.startswith("."):
        return False
    return not slash if parts is None else path == INDEX or folder in parts


def _folder_of(file: ExpectedFile) -> str:
    return file.path.rpartition("/")[0]


def _variant(file: ExpectedFile) -> str | None:
    """The variant in a file's name; "" without one; None for weights that no pipeline reads."""
    found = WEIGHTS.fullmatch(file.path.rpartition("/")[2])
    if found is None:
        return None if "/" in file.path else ""
    return found["before"] or found["after"] or ""


def _refuse_only_pickles(own: list[ExpectedFile], weights: list[ExpectedFile]) -> None:
    safe = {_folder_of(each) for each in weights}
    for each in own:
        if is_pickle(each.path) and _folder_of(each) not in safe:
            raise PickleRefused(each.path)
