"""Wildcards: lists of values in text files of one folder, `animals/cats.txt` for `__animals/cats__`."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SUFFIX = ".txt"
# A part of a name as it can stand in a template; two underscores would end it.
_PART = re.compile(r"(?!.*__)[A-Za-z0-9][A-Za-z0-9 _.-]{0,63}", re.ASCII)
FILES_MAX = 10_000


@dataclass(slots=True)
class Wildcards:
    """The lists by name, in order, and the files that are not taken, with the reason."""

    values: dict[str, tuple[str, ...]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def read_wildcards(folder: Path | None, maximum_bytes: int) -> Wildcards:
    """Read the lists of a folder; one value a line, blank lines and lines that begin with # left out.

    Together they may have `maximum_bytes`; what is beyond that, has another name or leads out of the folder is
    refused, and the rest is taken. Without a folder there are none.
    """
    found = Wildcards()
    if folder is None:
        return found
    root, left = folder.resolve(), maximum_bytes
    for path in _files(root):
        name = path.relative_to(root).with_suffix("").as_posix()
        try:
            data = _read(path, root, left)
        except (OSError, ValueError) as error:
            found.refused[name] = str(error) if isinstance(error, ValueError) else error.strerror or str(error)
            continue
        left -= len(data)
        lines = (line.strip() for line in data.decode().splitlines())
        values = tuple(dict.fromkeys(line for line in lines if line and not line.startswith("#")))
        if values:
            found.values[name] = values
        else:
            found.refused[name] = "it has no value"
    return found


def _files(root: Path) -> Iterator[Path]:
    """The text files under a folder, by name; links to folders are not followed."""
    number = 0
    for parent, folders, names in os.walk(root):
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        for name in sorted(names):
            if name.endswith(SUFFIX) and not name.startswith("."):
                number += 1
                if number > FILES_MAX:
                    return
                yield Path(parent) / name


def _read(path: Path, root: Path, left_bytes: int) -> bytes:
    """Errors: ValueError with the reason, OSError."""
    parts = path.relative_to(root).with_suffix("").parts
    if not all(_PART.fullmatch(part) for part in parts):
        raise ValueError("its name may have letters, digits, blanks, dots, - and single _ only")
    if not path.resolve().is_relative_to(root) or not path.is_file():
        raise ValueError("it leads to something that is not a file in the folder")
    with path.open("rb") as file:
        data = file.read(left_bytes + 1)
    if len(data) > left_bytes:
        raise ValueError("there is no room for it: FORGE_GATEWAY_WILDCARDS_BYTES is the size of all together")
    try:
        data.decode()
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
    return data
