"""How many runners a local stack has, and on which GPUs."""

import importlib
import os

from dreamforge.cli.failure import CommandError, Exit
from dreamforge.cli.settings import CliSettings


def gpus_of(settings: CliSettings, renderer: str) -> tuple[int, ...]:
    """The GPUs that a stack renders on, as nvidia-smi counts them: the visible ones, or the one that was named."""
    if renderer != "diffusers":
        return ()
    # By name, as the settings of the services: a remote client has no runner.
    device = importlib.import_module("dreamforge.gpu_runner.machine.device")
    found: tuple[int, ...] = device.visible_gpus(settings.runner_device, os.environ)
    named = settings.runner_gpu_index
    return tuple(gpu for gpu in found if named in (None, gpu))


def runner_count(asked: int, gpus: tuple[int, ...], shares: int) -> int:
    """How many runners to start. `asked` 0: as many as there is room for. Errors: CommandError for more than that.

    >>> runner_count(0, (), 1), runner_count(0, (0, 1), 2), runner_count(3, (), 1)
    (1, 4, 3)
    """
    most = len(gpus) * shares
    if most and asked > most:
        raise CommandError(
            f"{asked} runners were asked for, and there is room for {most}",
            Exit.REFUSED,
            {"GPUs": ", ".join(map(str, gpus)), "runners a GPU": str(shares)},
            "start fewer, or set FORGE_RUNNER_DEVICE_SHARES to the number of runners that share a GPU and its memory",
        )
    return asked or most or 1
