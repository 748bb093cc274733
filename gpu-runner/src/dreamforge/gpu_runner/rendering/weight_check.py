"""Whether a model has every weight that its configurations ask for, without loading one. Seconds, of import mostly.

    python -m dreamforge.gpu_runner.rendering weight_check FOLDER

For the command line, which has no torch itself. Prints one JSON object: `part` and `problem` of what would not load,
or what would load and not be read (`ignored_keys`, `ignored_settings`). It writes no file and has no network.
"""

import json
import sys
from pathlib import Path
from typing import Any

import diffusers
import torch

from dreamforge.gpu_runner.rendering.checkpoint import check_checkpoint
from dreamforge.gpu_runner.rendering.load_report import LoadReport, WeightsWrong, read_part
from dreamforge.gpu_runner.rendering.pipeline import INDEX_NAME, classes_of_parts, obeying, read_parts
from dreamforge.runtime.sandbox.privileges import CAP_DAC_READ_SEARCH
from dreamforge.runtime.sandbox.restrict import Allowed, restrict_process
from dreamforge.runtime.storage.pipeline_folder import checkpoint_of

SCHEDULER = "scheduler"
#: Reads the names and shapes of weights, and leaves the weights on the disk.
WITHOUT_MEMORY: dict[str, Any] = {"device_map": {"": "meta"}}


def check_weights(folder: Path) -> LoadReport:
    """What a pipeline's, a ControlNet's or a VAE's folder has beside the weights that it needs.

    Errors: WeightsWrong; for a checkpoint in one file also what `check_checkpoint` raises.
    """
    report = LoadReport()
    if not (folder / INDEX_NAME).is_file():
        name = json.loads((folder / "config.json").read_text())["_class_name"]
        read_part(getattr(diffusers, name), folder, name, torch.float32, report, **WITHOUT_MEMORY)
        return report
    if (checkpoint := checkpoint_of(folder)) is not None:
        check_checkpoint(checkpoint, classes_of_parts(folder), report)
    else:
        read_parts(folder, torch.float32, report, **WITHOUT_MEMORY)
    if report.scheduler_settings:
        _check_scheduler(folder, report)
    return report


def _check_scheduler(folder: Path, report: LoadReport) -> None:
    _, name = json.loads((folder / INDEX_NAME).read_text())[SCHEDULER]
    obeying(getattr(diffusers, name).from_pretrained(str(folder / SCHEDULER)), report)


def main() -> int:
    """Check the folder that is the first argument, and print what was found."""
    restrict_process(Allowed(writable=(Path("/dev"),), readable=None, capabilities=CAP_DAC_READ_SEARCH))
    try:
        report = check_weights(Path(sys.argv[1]))
    except WeightsWrong as error:
        found: dict[str, object] = {"part": error.part, "problem": error.problem}
    else:
        found = {"ignored_keys": report.ignored_keys, "ignored_settings": report.ignored_settings}
    print(json.dumps(found))  # noqa: T201 - the answer of this command
    return 0
