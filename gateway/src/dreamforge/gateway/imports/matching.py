"""Which registered model a picture means, by what its program wrote of it. Pure.

A1111, Forge, Fooocus and InvokeAI 2 write the SHA-256 of the file of weights, whole or its first ten digits: it is
compared with the pinned files of each model, and with the digest of its folder, which our own pictures carry. The
hashes of LoRAs in A1111, of SwarmUI (SHA-256 of the tensors alone) and of InvokeAI 3 and later (BLAKE3) are of other
bytes than a file has, so those are found by their names.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from dreamforge.contracts.models.descriptor import Kind, ModelDescriptor
from dreamforge.contracts.request.assets import fits
from dreamforge.contracts.request.embedding_words import embedding_names, with_words_replaced

_SHA256 = re.compile(r"(?:sha256:)?([0-9a-f]{10,64})")
_WEIGHTS = (".safetensors", ".ckpt", ".pt", ".bin", ".gguf", ".sft")


@dataclass(frozen=True, slots=True)
class Match:
    """The model that was found, how, and what is not sure about it."""

    model: ModelDescriptor | None
    matched_by: Literal["hash", "name"] | None = None
    note: str = ""


def match(name: str, digest: str, kind: Kind, models: Iterable[ModelDescriptor]) -> Match:
    """The registered model of a name and a hash, each of which may be empty."""
    known = [model for model in models if model.kind == kind]
    sha256 = _SHA256.fullmatch(digest.lower())
    if sha256 is not None:
        for model in known:
            if any(each.startswith(sha256[1]) for each in _hashes(model)):
                return Match(model, "hash")
    plain = plain_name(name)
    same = [model for model in known if plain and plain in _names(model)]
    if len(same) == 1:
        differs = sha256 is not None and any(_hashes(same[0]))
        return Match(same[0], "name", "no file of it has the hash in the picture" if differs else "")
    if same:
        return Match(None, note=f"several have this name: {', '.join(model.model_id for model in same)}")
    return Match(None, note=f"no registered {kind} has this {'name or hash' if digest else 'name'}")


def plain_name(name: str) -> str:
    """A name without folders, ending, case and punctuation.

    >>> plain_name("SDXL\\\\sd_xl_base_1.0.safetensors"), plain_name("SD XL base 1.0")
    ('sdxlbase10', 'sdxlbase10')
    """
    last = PurePosixPath(name.replace("\\", "/")).name
    stem = next((last.removesuffix(end) for end in _WEIGHTS if last.lower().endswith(end)), last)
    return re.sub(r"[\W_]+", "", stem).casefold()


def _hashes(model: ModelDescriptor) -> Iterator[str]:
    yield model.digest
    if model.source is not None:
        yield from (file.sha256 for file in model.source.files if file.path.endswith(_WEIGHTS))


def _names(model: ModelDescriptor) -> set[str]:
    names = [model.model_id, model.title]
    if model.source is not None:
        names.append(model.source.location)
        names += [file.path for file in model.source.files if "/" not in file.path and file.path.endswith(_WEIGHTS)]
    return {plain_name(name) for name in names}


def without_missing_embeddings(
    text: str, model: ModelDescriptor, models: Mapping[str, ModelDescriptor]
) -> tuple[str, tuple[str, ...]]:
    """A prompt in which `embedding:NAME` is a plain word where none of that name fits the model, and these names."""
    fitting = [each for each in models.values() if each.kind == "embedding" and fits(each, model)]
    known = {name.casefold() for each in fitting for name in (each.model_id, each.title)}
    missing = tuple(name for name in embedding_names(text) if name.casefold() not in known)
    return with_words_replaced(text, missing, lambda name: name), missing
