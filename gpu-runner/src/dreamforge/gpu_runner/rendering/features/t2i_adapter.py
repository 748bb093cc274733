"""T2I-Adapters: small networks that look once at a map, and add what they see to a U-Net. Only in the child.

diffusers has pipelines of their own for them, without image-to-image. Here the U-Net of any pipeline gets what they see
as a keyword of its own, in their steps.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import diffusers
import numpy as np
import torch
from PIL import Image
from torch.nn.functional import pad

from dreamforge.contracts.request.step_window import window_steps
from dreamforge.contracts.request.values import ControlUse
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.rendering.control_nets import NetCache, misfit, plain_setting
from dreamforge.gpu_runner.rendering.hooks import RenderedPixels, RenderFeature, RunPass, StepChange
from dreamforge.gpu_runner.rendering.load_report import report_warnings
from dreamforge.gpu_runner.rendering.passes import PassContext
from dreamforge.gpu_runner.rendering.pipeline import Pipeline
from dreamforge.gpu_runner.rendering.prepared_inputs import controls_of
from dreamforge.gpu_runner.rendering.renderer import RenderWarning

#: The keyword of a U-Net's call: a tensor for each of its levels.
KEYWORD = "down_intrablock_additional_residuals"
#: The type of the adapters for SDXL, whose first level reads no text.
XL_TYPE = "full_adapter_xl"


@dataclass(slots=True)
class _Seen:
    """What adapters saw, each tensor (1, channels, height, width), and what of it counts now."""

    uses: tuple[tuple[ControlUse, tuple[torch.Tensor, ...]], ...]
    now: tuple[torch.Tensor, ...] = ()

    def set_step(self, step: int, steps: int) -> None:
        """The sum of those whose steps it is."""
        acting = [
            [level * use.scale for level in levels]
            for use, levels in self.uses
            if use.scale and step in window_steps(use.start, use.end, steps)
        ]
        self.now = tuple(sum(levels[1:], levels[0]) for levels in zip(*acting, strict=True))

    def added(self, _unet: Any, arguments: Any, keywords: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """A hook before each call of the U-Net, which takes the tensors out of the list that it is given.

        Any: arguments of a U-Net; the first, or `sample`, are the latents.
        """
        if not self.now:
            return arguments, keywords
        batch = (arguments[0] if arguments else keywords["sample"]).shape[0]
        return arguments, {**keywords, KEYWORD: [each.expand(batch, -1, -1, -1) for each in self.now]}


class T2IAdapters(RenderFeature):
    """`control` of a request, where it names T2I-Adapters: in the first pass, as ControlNets."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._nets = NetCache(diffusers.T2IAdapter, "T2I-Adapter")
        #: Of the pass that runs.
        self._seen: _Seen | None = None

    def warnings(self, pipeline: Pipeline, task: RenderTask) -> tuple[RenderWarning, ...]:
        """What the networks' files hold that no image will show. Errors: RenderFailed(model_broken)."""
        nets = dict.fromkeys(self._nets.nets(task, pipeline))
        return tuple(warning for net in nets for warning in report_warnings(net.report, net.key.model_id))

    def check(self, pipeline: Pipeline, task: RenderTask) -> None:
        """Errors: RenderFailed (model_broken; invalid_request where one belongs to another base)."""
        uses = self._nets.uses_of(task)
        for (_, use), loaded in zip(uses, self._nets.nets(task, pipeline), strict=True):
            if differences := _differences(loaded.net, pipeline.components.get("unet")):
                raise misfit(use.model_id, task, "T2I-Adapter", differences)

    def run(self, context: PassContext, pipeline: Pipeline, proceed: RunPass) -> RenderedPixels:
        """Around the first pass: what adapters see is added inside. Errors: RenderFailed for what is no image."""
        uses = list(self._nets.uses_of(context.task))
        if not uses or not context.is_first:
            return proceed()
        images = controls_of(context.task, context.current.size_px)
        nets = self._nets.nets(context.task, pipeline)
        looked = (
            _levels(each.net.to(self._device), images[place].image) for each, (place, _) in zip(nets, uses, strict=True)
        )
        seen = _Seen(tuple((use, levels) for (_, use), levels in zip(uses, looked, strict=True)))
        seen.set_step(0, context.current.steps_made)
        with self._adding(seen, pipeline.components["unet"]):
            return proceed()

    def before_step(self, context: PassContext, pipeline: Pipeline) -> StepChange | None:  # noqa: ARG002
        """Each acts in its own steps."""
        return self._seen.set_step if self._seen is not None else None

    def release(self) -> None:
        """Let the networks go."""
        self._nets.release()

    @contextmanager
    def _adding(self, seen: _Seen, unet: Any) -> Iterator[None]:  # Any: diffusers' classes have no types
        hook = unet.register_forward_pre_hook(seen.added, with_kwargs=True)
        self._seen = seen
        try:
            yield
        finally:
            self._seen = None
            hook.remove()


def _differences(net: Any, unet: Any) -> list[str]:  # Any: see `T2IAdapters._adding`
    """In what an adapter was made for another U-Net. Those for SDXL have a level more, for its middle."""
    if unet is None:
        return ["kind of network"]
    channels, levels = plain_setting(net, "channels"), plain_setting(unet, "block_out_channels")
    reads_first = str(unet.config.down_block_types[0]).startswith("CrossAttn")
    fits = isinstance(channels, tuple) and isinstance(levels, tuple) and channels[: len(levels)] == levels
    return [
        name
        for name, same in (
            ("block_out_channels", fits),
            ("adapter_type", reads_first != (net.config.adapter_type == XL_TYPE)),
        )
        if not same
    ]


def _levels(net: Any, image: Image.Image) -> tuple[torch.Tensor, ...]:  # Any: see `T2IAdapters._adding`
    """What an adapter sees of a map, for each level of the U-Net: (1, channels, height, width)."""
    pixels = np.asarray(image.convert("L" if net.config.in_channels == 1 else "RGB"), dtype=np.float32) / 255
    tensor = torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1)[None]
    multiple = net.config.downscale_factor
    height, width = tensor.shape[2:]
    tensor = pad(tensor, (0, -width % multiple, 0, -height % multiple))  # black: nothing to follow
    return tuple(net(tensor.to(net.device, net.dtype)))
