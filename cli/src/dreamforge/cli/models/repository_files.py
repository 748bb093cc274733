"""Which files of a repository its pipeline reads. Pure."""

from collections.abc import Iterable
from pathlib import PurePosixPath

from dreamforge.cli.models.partial_file import ExpectedFile
from dreamforge.contracts.models.model_files import PickleRefused, is_pickle
from dreamforge.runtime.storage.weight_variants import choose_variant, part_weights

INDEX = "model_index.json"
SAFETENSORS = ".safetensors"
#: What a pipeline reads besides its weights: configurations, vocabularies, SentencePiece models, and how a
#: conversation with a language model is written.
CONFIGURATION_SUFFIXES = frozenset({".json", ".txt", ".model", ".jinja"})


def pipeline_files(
    listed: Iterable[ExpectedFile], parts: frozenset[str] | None, variant: str = ""
) -> tuple[ExpectedFile, ...]:
    """The files that the pipeline of a repository reads.

    `parts`: its folders; None if the repository is not a pipeline, then the files at the top. Weights are those of
    `variant` if every part has them, else those that a runner finds: see `choose_variant`.
    Errors: PickleRefused for a part that has its weights only as a pickle.
    """
    own = [each for each in listed if _belongs(each.path, parts)]
    weights = [each for each in own if each.path.endswith(SAFETENSORS)]
    _refuse_only_pickles(own, weights)
    others = [each for each in own if _is_configuration(each) and ".bin." not in each.path]
    if parts is not None:
        weights = _of_one_variant(own, weights, variant)
    return tuple(sorted((*weights, *others), key=lambda each: each.path))


def _of_one_variant(own: list[ExpectedFile], weights: list[ExpectedFile], preferred: str) -> list[ExpectedFile]:
    """The weights of each part that loading reads; all of a part where no variant is complete: checking says why."""
    complete = {
        folder: part_weights(_name_of(each) for each in own if _folder_of(each) == folder).complete
        for folder in map(_folder_of, weights)
    }
    all_have_it = all(preferred in found for found in complete.values() if found)
    chosen: set[str] = set()
    for folder, found in complete.items():
        variant = preferred if all_have_it and preferred in found else choose_variant(found)
        names = found[variant] if variant is not None else map(_name_of, weights)
        chosen |= {f"{folder}/{name}" for name in names}
    return [each for each in weights if each.path in chosen]


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


def _name_of(file: ExpectedFile) -> str:
    return file.path.rpartition("/")[2]


def _refuse_only_pickles(own: list[ExpectedFile], weights: list[ExpectedFile]) -> None:
    safe = {_folder_of(each) for each in weights}
    for each in own:
        if is_pickle(each.path) and _folder_of(each) not in safe:
            raise PickleRefused(each.path)
