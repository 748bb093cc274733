"""The documents of this repository, as tests run what they show."""

import re
from pathlib import Path

CLIENTS = Path(__file__).parents[3] / "docs" / "clients.md"


def headings(document: Path = CLIENTS) -> list[str]:
    """Those of the second level."""
    return re.findall(r"^## (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)


def section(heading: str, document: Path = CLIENTS) -> str:
    """What is below a heading of the second level. Errors: AssertionError if there is none."""
    text = document.read_text(encoding="utf-8")
    assert f"## {heading}\n" in text, heading
    return text.partition(f"## {heading}\n")[2].partition("\n## ")[0]


def snippets(heading: str, language: str = "python", document: Path = CLIENTS) -> list[str]:
    """The programs of one language below a heading."""
    return re.findall(rf"```{language}\n(.*?)```", section(heading, document), re.DOTALL)
