"""The list of nodes in `docs/comfyui.md`, made of their declarations.

`python -m dreamforge.gateway.facades.comfyui.nodes_page docs/comfyui.md` writes it into the page, behind its text.
"""

import sys
from pathlib import Path

from dreamforge.gateway.facades.comfyui.node_types import Input, NodeType
from dreamforge.gateway.facades.comfyui.nodes import NODES

HEAD = "| class | inputs | what else |\n|---|---|---|\n"


def table() -> str:
    """The list, as a table."""
    return HEAD + "".join(_row(name, node) for name, node in NODES.items())


def with_table(page: str) -> str:
    """The page with the list of now. Errors: ValueError where it has no table of nodes."""
    before, head, _ = page.partition(HEAD)
    if not head:
        raise ValueError("the page has no table of nodes")
    return before + table()


def _row(name: str, node: NodeType) -> str:
    inputs = ", ".join(_input(each, declared) for each, declared in node.inputs.items())
    return f"| `{name}` | {inputs} | {node.note} |\n"


def _input(name: str, declared: Input) -> str:
    only = f" = {declared.choices[0]}" if len(declared.choices) == 1 else ""
    return f"{name}{only}{' (optional)' if declared.optional else ''}"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(with_table(path.read_text()))
