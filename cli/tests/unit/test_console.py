"""Text from anywhere is printed as it is: nothing in it is interpreted, by rich or by the terminal."""

import io
import sys

import pytest
from rich.table import Table
from rich.text import Text

from dreamforge.cli.console import PlainConsole, printable, tolerate_any_text

PROMPT = r"a cat, casino \(style\), [/b] [bold]x :fox_face: <lora:a:1>"


def printed(*renderables: object, width: int = 100) -> str:
    console = PlainConsole(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    console.print(*renderables)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def table_of(*cells: str | Text) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_row(*cells, "|")
    return table


@pytest.mark.parametrize("text", [PROMPT, "[", "[/]", r"\[b]", "[link=x]y[/link]"])
def test_markup_in_a_text_is_text(text: str) -> None:
    assert printed(text).strip() == text
    assert printed(table_of(text)).strip() == f"{text}  |"


def test_a_control_character_is_shown_and_counted() -> None:
    shown = printed(table_of("a \x1b[31mred\x07\r fox")).rstrip()
    assert shown == r"a \x1b[31mred\x07\r fox  |"
    assert "\x1b" not in printed(Text("a \x1b[2J"))
    assert printable("a\u202eb\udce9") == r"a\u202eb\udce9"


def test_lines_and_tabs_stay() -> None:
    assert printable("a\nb\tc") == "a\nb\tc"


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "ascii"])
def test_a_terminal_of_another_encoding_shows_escapes(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
    tolerate_any_text()
    PlainConsole(width=80).print(table_of("\N{FOX FACE} in \N{LATIN CAPITAL LETTER L WITH STROKE}\xf3d\u017a", "x"))
    sys.stdout.flush()
    assert rb"\U0001f98a in \u0141" in written.getvalue()
