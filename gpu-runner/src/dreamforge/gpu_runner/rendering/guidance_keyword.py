"""The keyword by which a pipeline is guided. Import this only in the child.

Some pipelines have two: `guidance_scale` is a number that a distilled network reads, `true_cfg_scale` guides it away
from a negative prompt. FLUX is guided by the first, and could be by the second at twice the cost; Qwen-Image is not
distilled, ignores the first and is guided by the second. diffusers' own default tells which is meant: above 1 it acts.
"""

import inspect
from collections.abc import Mapping
from typing import Literal

GuidanceKeyword = Literal["guidance_scale", "true_cfg_scale"]


def guidance_keyword(parameters: Mapping[str, inspect.Parameter]) -> GuidanceKeyword | None:
    """Of the keywords of a pipeline's call, the one of `guidance_scale` of a request; None: it takes no guidance."""
    second = parameters.get("true_cfg_scale")
    if second is not None and isinstance(second.default, int | float) and second.default > 1:
        return "true_cfg_scale"
    return "guidance_scale" if "guidance_scale" in parameters else None


def takes_negative(parameters: Mapping[str, inspect.Parameter]) -> bool:
    """Whether a negative prompt changes an image: where a distilled number guides, the keyword is there and ignored."""
    return "negative_prompt" in parameters and (
        "true_cfg_scale" not in parameters or guidance_keyword(parameters) == "true_cfg_scale"
    )
