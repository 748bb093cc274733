"""What the head of a model's page says: the fields between the dashes at the top of its README.md."""

import re
from pathlib import Path

UNKNOWN_LICENCE = "unknown"
#: What a page's `license` says where the licence is none of the usual ones: then `license_name` has its name.
OTHER_LICENCE = "other"
_FIELD = re.compile(r"^(licen[sc]e|licen[sc]e_name):[ \t]*[\"']?([^\"'\n]+)", re.MULTILINE)


def licence_in(folder: Path) -> str:
    """The licence in the head of a repository's README; UNKNOWN_LICENCE where it has none."""
    readme = folder / "README.md"
    return licence_of(readme.read_text(encoding="utf-8", errors="replace")) if readme.is_file() else UNKNOWN_LICENCE


def licence_of(card: str) -> str:
    """The same of the page's text.

    >>> licence_of("---\\nlicense: other\\nlicense_name: flux-1-dev-non-commercial-license\\n---\\n# FLUX")
    'flux-1-dev-non-commercial-license'
    """
    head = card.partition("\n---")[0] if card.startswith("---") else ""
    found: list[tuple[str, str]] = _FIELD.findall(head)
    fields = {name.replace("licence", "license"): value.strip() for name, value in reversed(found)}
    licence = fields.get("license", UNKNOWN_LICENCE)
    return fields.get("license_name", licence) if licence in (OTHER_LICENCE, UNKNOWN_LICENCE) else licence
