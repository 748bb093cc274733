"""Whether a model has every weight that its parts need, as only the libraries that load it know."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from dreamforge.cli.console import err
from dreamforge.cli.settings import CliSettings
from dreamforge.contracts.models.descriptor import Kind
from dreamforge.runtime.sandbox.environment import renderer_environment
from dreamforge.runtime.storage.model_facts import ModelUnusable
from dreamforge.runtime.storage.pipeline_class import INDEX_NAME

#: The runner's own check, in a process of its own: this one stays without torch.
CHECK = ("-m", "dreamforge.gpu_runner.rendering", "weight_check")
NEEDED = ("dreamforge.gpu_runner", "torch", "diffusers")
#: Importing torch and diffusers takes up to 20 s on a slow machine, the headers of the largest models less.
TIMEOUT_SECONDS = 180.0
RIGHT = "take the whole model, and the configurations that belong to its weights"
KEYS_SHOWN = 5


def check_weights(settings: CliSettings, folder: Path, kind: Kind) -> None:
    """Refuse a folder with missing or other weights; say which of its keys and settings nothing reads. Blocking.

    Nothing where the runner is not installed here, or `models_check` is `headers`: then the first load tells. A LoRA
    cannot be judged without its model, nor an IP-Adapter or a VAE without a configuration; of an upscaler or an
    embedding the header says all.
    Errors: ModelUnusable.
    """
    described = any((folder / name).is_file() for name in ("config.json", INDEX_NAME))
    without_configuration = kind in ("lora", "upscaler", "embedding") or not described
    if without_configuration or settings.models_check == "headers" or not _runner_is_here():
        return
    found = _found(folder)
    if "problem" in found:
        raise ModelUnusable(str(folder), str(found["part"]), f"does not load: {found['problem']}", RIGHT)
    for what, words in (("ignored_keys", "weights"), ("ignored_settings", "settings")):
        if names := found.get(what):
            more = f" and {len(names) - KEYS_SHOWN} more" if len(names) > KEYS_SHOWN else ""
            err.print(f"{folder.name} has {words} that nothing reads: {', '.join(names[:KEYS_SHOWN])}{more}")


def _found(folder: Path) -> dict[str, Any]:  # Any: as the check prints it
    """What the check says; nothing if it does not come to an end: it judges models, not itself."""
    command = (sys.executable, *CHECK, str(folder))
    try:
        done = subprocess.run(
            command,
            env=renderer_environment(os.environ),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=True,
        )
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (subprocess.SubprocessError, OSError, ValueError, IndexError) as error:
        err.print(f"the weights of {folder.name} were not checked one by one: {error}")
        return {}
    return found


def _runner_is_here() -> bool:
    return all(importlib.util.find_spec(name) is not None for name in NEEDED)
