"""ControlNets: networks that hold a render to uploaded images. Import this only in the child."""

import inspect
from typing import Any

import diffusers
import torch

from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.rendering.control_nets import NetCache, check_controls, misfit, plain_setting
from dreamforge.gpu_runner.rendering.hooks import Keywords, RenderFeature
from dreamforge.gpu_runner.rendering.load_report import report_warnings
from dreamforge.gpu_runner.rendering.passes import PassContext
from dreamforge.gpu_runner.rendering.pipeline import Pipeline
from dreamforge.gpu_runner.rendering.prepared_inputs import controls_of
from dreamforge.gpu_runner.rendering.renderer import RenderWarning

#: What a net must share with the U-Net that it was trained beside: it is a copy of one half of it.
SHARED = ("cross_attention_dim", "block_out_channels", "in_channels", "addition_embed_type")


class ControlNetCache(RenderFeature):
    """`control` of a request, in the first pass; the nets of the last request stay in memory beside the pipelines."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._nets = NetCache(diffusers.ControlNetModel, "ControlNet")

    def warnings(self, pipeline: Pipeline, task: RenderTask) -> tuple[RenderWarning, ...]:
        """What the networks' files hold that no image will show.

        Errors: RenderFailed (model_missing, model_broken; invalid_request for a network of another class).
        """
        check_controls(task, diffusers.ControlNetModel, diffusers.T2IAdapter)
        nets = dict.fromkeys(self._nets.nets(task, pipeline))
        return tuple(warning for net in nets for warning in report_warnings(net.report, net.key.model_id))

    def check(self, pipeline: Pipeline, task: RenderTask) -> None:  # noqa: ARG002
        """Errors: as those of `warnings`."""
        check_controls(task, diffusers.ControlNetModel, diffusers.T2IAdapter)

    def parts(self, context: PassContext) -> Keywords:
        """The networks. Errors: RenderFailed (model_broken; invalid_request where one belongs to another base)."""
        task = context.task
        uses = [use for _, use in self._nets.uses_of(task)]
        if not uses or not context.is_first:
            return {}
        # Each time: a pipeline that offloads its parts leaves these in the host's memory too.
        nets = [each.net.to(self._device) for each in self._nets.nets(task, context.base)]
        for net, use in zip(nets, uses, strict=True):
            _check_fit(net, context.base, use.model_id, task)
        return {"controlnet": _alone(nets)}

    def arguments(self, context: PassContext, pipeline: Pipeline) -> Keywords:
        """Their images, scales and steps. Errors: RenderFailed(invalid_request) if a file is no image."""
        uses = list(self._nets.uses_of(context.task))
        if not uses or not context.is_first:
            return {}
        # Where `image` is what is rendered over, the images of ControlNets have a keyword of their own.
        parameters = inspect.signature(type(pipeline).__call__).parameters
        name = "control_image" if "control_image" in parameters else "image"
        images = controls_of(context.task, context.current.size_px)
        return {
            name: _alone([images[place].image for place, _ in uses]),
            "controlnet_conditioning_scale": _alone([use.scale for _, use in uses]),
            "control_guidance_start": [use.start for _, use in uses],
            "control_guidance_end": [use.end for _, use in uses],
        }

    def release(self) -> None:
        """Let the networks go."""
        self._nets.release()


def _alone(each: list[Any]) -> Any:  # Any: networks, images or scales
    """Diffusers wants lists of several only."""
    return each[0] if len(each) == 1 else each


def _check_fit(net: Any, base: Pipeline, net_id: str, task: RenderTask) -> None:  # Any: see LoadedNet
    unet: Any = base.components.get("unet")
    differences = [name for name in SHARED if unet is None or plain_setting(net, name) != plain_setting(unet, name)]
    if differences:
        raise misfit(net_id, task, "ControlNet", differences)
