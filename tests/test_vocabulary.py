"""One vocabulary (docs/glossary.md): no public class name means two things, and no name or text is a metaphor."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(ROOT.glob("*/src/dreamforge/**/*.py"))
# Words that once named things here. Standard terms took their place.
METAPHORS = frozenset({
    "knock", "gate", "wish", "tap", "hands", "keeper", "listening", "warner", "lookout", "heart", "painter",
    "painted", "paint", "paints", "painting", "residents", "soundly", "remark", "attendance", "scene", "lapse",
    "shelf", "voice", "ear", "house", "neighbour", "beat", "beats", "whoever", "nobody", "somebody", "storm",
    "weather", "ledger", "crowd", "verdict", "victim", "victims", "story", "teller",
})  # fmt: skip
# In a class or a module these would name a thing; in a function they may be plain English ("make room").
METAPHORS_AS_THINGS = METAPHORS | {"room", "moment", "moments", "roll", "wanted", "door", "wall"}
PHRASES = ("whoever", "nobody", "somebody", "for ever", "what time takes", "is to be had", "in our hands")


def names(path: Path) -> Iterator[tuple[int, str, str]]:
    """(line, kind, name) of a module and every class, function and method in it."""
    yield 1, "module", path.stem
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef):
            yield node.lineno, "class", node.name
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, "function", node.name


def words(name: str) -> set[str]:
    """The words of an identifier, in lower case.

    >>> sorted(words("_JobLimits")), sorted(words("read_PNG2"))
    (['job', 'limits'], ['png', 'read'])
    """
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def test_a_public_class_name_exists_in_one_distribution_only() -> None:
    found: dict[str, set[str]] = defaultdict(set)
    for path in SOURCES:
        for _, kind, name in names(path):
            if kind == "class" and not name.startswith("_"):
                found[name].add(path.relative_to(ROOT).parts[0])
    assert not {name: sorted(where) for name, where in found.items() if len(where) > 1}


def test_no_name_is_a_metaphor() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {kind} {name}"
        for path in SOURCES
        for line, kind, name in names(path)
        if words(name) & (METAPHORS if kind == "function" else METAPHORS_AS_THINGS)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("phrase", PHRASES)
def test_docstrings_comments_and_messages_are_plain(phrase: str) -> None:
    pattern = re.compile(rf"(?<!\")\b{phrase}\b", re.IGNORECASE)  # in quotes it is the system's user "nobody"
    lines = ((path, *each) for path in SOURCES for each in enumerate(path.read_text(encoding="utf-8").splitlines(), 1))
    found = [f"{path.relative_to(ROOT)}:{number}" for path, number, line in lines if pattern.search(line)]
    assert not found, "\n".join(found)
