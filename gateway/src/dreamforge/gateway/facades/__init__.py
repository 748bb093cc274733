"""Interfaces that other programs speak, on top of the same jobs: each translates, and holds no rule of its own."""

from collections.abc import Mapping

from dreamforge.gateway.facades.a1111.errors import a1111_error
from dreamforge.gateway.facades.comfyui.refusals import COMFY_PATHS, comfy_error
from dreamforge.gateway.facades.comfyui.v2.errors import v2_error
from dreamforge.gateway.facades.openai.errors import openai_error
from dreamforge.gateway.http.middleware import ErrorShape

# By the beginning of a path: how its clients expect an error.
ERROR_SHAPES: Mapping[str, ErrorShape] = {
    "/v1/images/": openai_error,
    "/v1/models/": openai_error,
    "/sdapi/": a1111_error,
    "/controlnet/": a1111_error,
    "/api/v2/": v2_error,
    **dict.fromkeys(COMFY_PATHS, comfy_error),
}
