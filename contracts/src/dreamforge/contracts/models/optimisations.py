"""Ways to render the same image faster, as a preset, a request or a runner names them. Pure.

None is meant to change an image, but each may change the last bits of its numbers, and so single pixels by a level or
two. Recipes name those that an image was rendered with.
"""

from typing import Annotated, Literal, get_args

from pydantic import AfterValidator

OptimisationName = Literal[
    "channels_last", "fused_projections", "attention_cudnn", "attention_efficient", "attention_flash", "compiled_blocks"
]
OPTIMISATIONS: tuple[OptimisationName, ...] = get_args(OptimisationName)
# Stands alone: the model as diffusers loads it, whatever the runner does otherwise.
NONE = "none"
# Longer than all names: keeps the text of a body short before it is read.
CHARS_MAX = 200


def named_optimisations(text: str) -> tuple[str, ...]:
    """The names in a text, in their own order. Errors: ValueError.

    >>> named_optimisations("fused_projections, channels_last"), named_optimisations("none")
    (('channels_last', 'fused_projections'), ())
    """
    names = [each.strip() for each in text.split(",")]
    if names == [NONE]:
        return ()
    for name in names:
        if name not in OPTIMISATIONS:
            raise ValueError(f"{name[:40]!r} is none of {', '.join(OPTIMISATIONS)}, and {NONE} stands alone")
    found = tuple(name for name in OPTIMISATIONS if name in names)
    if len(found) < len(names):
        raise ValueError("each can be named once")
    attention = [name for name in found if name.startswith("attention_")]
    if len(attention) > 1:
        raise ValueError(f"attention is computed in one way: {attention[0]} or {attention[1]}")
    return found


def _canonical(text: str) -> str:
    if len(text) > CHARS_MAX:
        raise ValueError(f"must have at most {CHARS_MAX} characters")
    return ",".join(named_optimisations(text)) or NONE


# Names with commas between them, or NONE; recorded in one order.
Optimisations = Annotated[str, AfterValidator(_canonical)]
