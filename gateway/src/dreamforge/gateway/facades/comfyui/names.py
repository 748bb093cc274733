"""Names of images: they say all that is needed to find one, so that nothing has to be remembered. Pure."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dreamforge.contracts.pictures.formats import extension_of

Json = Mapping[str, Any]  # Any: JSON
_SHA256 = re.compile(r"([0-9a-f]{64})(?:-([0-9a-f]{64}))?(?:\.[a-z0-9]{1,5})?", re.ASCII)
_ARTIFACT = re.compile(
    r"(?:.*_)?([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}-[0-9]{1,9}-[0-9]{1,9})_?(?:\.[a-z0-9]{1,5})?", re.ASCII
)
_ANNOTATION = re.compile(r"\s*\[(?:input|output|temp)\]$")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+", re.ASCII)
PREFIX_CHARS_MAX = 64
PREFIX = "ComfyUI"


@dataclass(frozen=True, slots=True)
class UploadName:
    """An upload; `mask_sha256`: by another one, whose transparency is its mask."""

    sha256: str
    mask_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class ArtifactName:
    """A finished image."""

    artifact_id: str


def upload_name(sha256: str, content_type: str, mask_sha256: str | None = None) -> str:
    """The name of an upload.

    >>> upload_name("ab" * 32, "image/png")[-8:]
    'abab.png'
    """
    masked = f"-{mask_sha256}" if mask_sha256 else ""
    return f"{sha256}{masked}{extension_of(content_type)}"


def read_name(text: str) -> UploadName | ArtifactName | None:
    """What a name stands for, whatever folder is before it; None for a name that was not made here.

    >>> read_name("input/" + "ab" * 32 + ".png [input]").sha256[:4], read_name("example.png")
    ('abab', None)
    """
    file = _ANNOTATION.sub("", text).replace("\\", "/").rpartition("/")[2]
    if (found := _SHA256.fullmatch(file)) is not None:
        return UploadName(found[1], found[2])
    found = _ARTIFACT.fullmatch(file)
    return ArtifactName(found[1]) if found is not None else None


def image_entry(prefix: str, artifact_id: str, content_type: str, kind: str) -> dict[str, str]:
    """An image as outputs show it; `prefix` is that of a SaveImage node, perhaps with folders.

    >>> image_entry("cats/tabby", "J-1-0", "image/png", "output")
    {'filename': 'tabby_J-1-0_.png', 'subfolder': 'cats', 'type': 'output'}
    """
    folders, _, name = prefix.replace("\\", "/").rpartition("/")
    parts = [_UNSAFE.sub("_", part)[:PREFIX_CHARS_MAX] for part in folders.split("/") if part.strip(". ")]
    safe = _UNSAFE.sub("_", name)[:PREFIX_CHARS_MAX] or PREFIX
    return {
        "filename": f"{safe}_{artifact_id}_{extension_of(content_type)}",
        "subfolder": "/".join(parts),
        "type": kind,
    }


def outputs_of(workflow: Json, images: Iterable[tuple[str, str]]) -> dict[str, Json]:
    """What each output node of a workflow shows of the images of its job, each an id and a content type."""
    graph, found = workflow["graph"], list(images)
    outputs: dict[str, Json] = {}
    for node_id in workflow["outputs"]:
        node = graph[node_id]
        saved = node["class_type"] == "SaveImage"
        prefix = str(node["inputs"].get("filename_prefix", PREFIX)) if saved else PREFIX
        kind = "output" if saved else "temp"
        outputs[node_id] = {"images": [image_entry(prefix, each, content, kind) for each, content in found]}
    return outputs
