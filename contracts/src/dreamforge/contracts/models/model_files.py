"""Which files may be part of a model: kinds that are only read, and names that mean the same on every system. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from dreamforge.contracts.errors import InvalidInput

#: Weights in these are pickles: reading one runs code (CVE-2025-32434, CVE-2026-24747), so none is ever read.
PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"})
#: Weights, configurations, vocabularies, SentencePiece models, pages about them, and how a language model's
#: conversation is written (transformers renders `.jinja` in Jinja's sandbox). Nothing else is downloaded or served.
SUFFIXES = frozenset({".safetensors", ".gguf", ".json", ".txt", ".model", ".md", ".jinja"})
#: What people keep with a model, under names that often have no suffix.
DOCUMENTS = ("README", "LICENSE", "LICENCE", "NOTICE")
DOCUMENT_SUFFIXES = frozenset({"", ".md", ".txt", ".rst"})
#: Devices of Windows, whatever suffix follows.
RESERVED = frozenset({"con", "prn", "aux", "nul", *(f"{name}{n}" for name in ("com", "lpt") for n in range(1, 10))})
PATH_CHARACTERS_MAX = 512
#: What file systems allow for one name.
NAME_BYTES_MAX = 255


@dataclass(eq=False)
class PickleRefused(InvalidInput):
    """A file of a model whose reading would run code."""

    code = "pickle_refused"
    path: str

    def __str__(self) -> str:
        return (
            f"{self.path} is a pickle: reading it runs whatever code it holds, so it is refused;"
            " take the same weights as .safetensors"
        )


@dataclass(eq=False)
class ModelFileRefused(InvalidInput):
    """A file that cannot be part of a model: its kind, or its place."""

    code = "model_file_refused"
    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path!r} cannot be a file of a model: {self.reason}"


def is_pickle(path: str) -> bool:
    """Whether a file's name says that it holds pickled objects.

    >>> is_pickle("unet/diffusion_pytorch_model.bin"), is_pickle("unet/diffusion_pytorch_model.safetensors")
    (True, False)
    """
    return PurePosixPath(path).suffix.lower() in PICKLES


def is_kind_of_model(path: str) -> bool:
    """Whether a file's name is that of weights, a configuration, a vocabulary, or a page about the model.

    >>> is_kind_of_model("tokenizer/merges.txt"), is_kind_of_model("LICENSE"), is_kind_of_model("unet/hook.py")
    (True, True, False)
    """
    name = PurePosixPath(path)
    is_document = name.name.upper().startswith(DOCUMENTS) and name.suffix.lower() in DOCUMENT_SUFFIXES
    return name.suffix.lower() in SUFFIXES or is_document


def place_problem(path: str) -> str:
    """Why a path cannot be one inside a model's folder, on every system; "" if it can.

    >>> place_problem("unet/config.json"), place_problem("../.ssh/id"), place_problem("unet/.cache/config.json")
    ('', "it must be a relative path without '.', '..', ':' and backslashes", 'it is hidden')
    """
    names = path.split("/")
    if not path or path.startswith("/") or {"", ".", ".."} & set(names) or "\\" in path or ":" in path:
        return "it must be a relative path without '.', '..', ':' and backslashes"
    if not path.isprintable():
        return "it has control characters"
    if len(path) > PATH_CHARACTERS_MAX or any(len(name.encode()) > NAME_BYTES_MAX for name in names):
        return f"it is longer than {PATH_CHARACTERS_MAX} characters, or a name in it than {NAME_BYTES_MAX} bytes"
    if any(name.startswith(".") for name in names):
        return "it is hidden"
    if any(name.partition(".")[0].lower() in RESERVED or name.endswith((".", " ")) for name in names):
        return "a name in it is reserved on some systems"
    return ""


def refuse_file(path: str) -> None:
    """Errors: PickleRefused, ModelFileRefused."""
    if problem := place_problem(path):
        raise ModelFileRefused(path, problem)
    if is_pickle(path):
        raise PickleRefused(path)
    if not is_kind_of_model(path):
        kinds = ", ".join(sorted(SUFFIXES))
        raise ModelFileRefused(path, f"it is none of {kinds}, and no README or LICENSE; remove it, or leave it out")


def refuse_files(paths: Iterable[str]) -> None:
    """Refuse a list with a file that cannot be one, or with two that are the same file on some system.

    Errors: PickleRefused, ModelFileRefused.
    """
    seen: dict[str, str] = {}
    for path in paths:
        refuse_file(path)
        if (other := seen.setdefault(path.casefold(), path)) != path:
            raise ModelFileRefused(path, f"it is {other!r} where upper and lower case are the same")
    folders = {str(parent).casefold() for path in seen.values() for parent in PurePosixPath(path).parents}
    for name, path in seen.items():
        if name in folders:
            raise ModelFileRefused(path, "another file lies below it")
