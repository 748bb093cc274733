"""What a child process is started with: one value, on its command line as JSON."""

from typing import Literal

from dreamforge.contracts.models.descriptor import Dtype, Value
from dreamforge.contracts.models.optimisations import NONE


class ChildOptions(Value):
    """The settings of a runner that concern its child, each under its name without `runner_`."""

    renderer: Literal["diffusers", "synthetic"] = "diffusers"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    gpu_index: int = 0
    dtype: Literal["auto"] | Dtype = "auto"
    threads: int = 1
    slots: int = 1
    resident_bytes: int = 0
    device_shares: int = 1
    sandbox: Literal["auto", "off", "required"] = "auto"
    optimisations: str = NONE
    #: Where compilers keep what they made; empty: nowhere.
    compile_cache: str = ""
    compile_cache_bytes: int = 0
    step_delay_seconds: float = 0.0
    log_level: str = "INFO"
    log_json: bool = True
    #: Not for the child itself: how many models it is asked to load before its first task, and which further variables
    #: of the environment it is started with.
    resident_models: int = 2
    child_environment: str = ""
