"""How much of its steps a model of a flow spends where there is most noise. Import this only in the child."""

import inspect
from typing import Any

from dreamforge.contracts.events import FailureReason
from dreamforge.gpu_runner.rendering.renderer import RenderFailed

#: What scheduler classes of diffusers 0.42.1 call the factor: those that do nothing but flows, and those that can.
_NAMES = ("shift", "flow_shift")


# Any: diffusers' schedulers share a mixin without what their configurations name.
def shifted(scheduler: Any, factor: float | None) -> Any:
    """The scheduler with noise levels s f / (1 + (f - 1) s) in place of s; None: as it is.

    A factor takes the place of one that follows the size of the image (FLUX: 3.16 for 1024 x 1024 px).
    Errors: RenderFailed(invalid_request) where its noise follows no flow.
    """
    if factor is None:
        return scheduler
    takes = inspect.signature(type(scheduler).__init__).parameters
    name = next((each for each in _NAMES if each in takes), None)
    if name is None or not ("use_flow_sigmas" not in takes or scheduler.config.use_flow_sigmas):
        message = f"flow_shift is of a flow, and a {type(scheduler).__name__} follows none that can be shifted"
        raise RenderFailed(FailureReason.INVALID_REQUEST, message)
    settings = {name: factor} | ({"use_dynamic_shifting": False} if "use_dynamic_shifting" in takes else {})
    return type(scheduler).from_config(scheduler.config, **settings)
