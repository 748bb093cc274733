"""Whether a folder holds the files of its descriptor."""

from pathlib import Path

from dreamforge.contracts.models.descriptor import ModelDescriptor
from dreamforge.runtime.storage.model_folder import Fault, ModelFilesWrong, Survey, faults_of


def refuse_other_files(descriptor: ModelDescriptor, folder: Path, found: Survey) -> None:
    """Errors: ModelFilesWrong with each file that is wrong."""
    pinned = descriptor.source.files if descriptor.source else ()
    faults = faults_of(pinned, found.files) if pinned else ()
    if not faults and found.digest != descriptor.digest:
        faults = (Fault("all files", f"have digest {found.digest}, but must have {descriptor.digest}"),)
    if faults:
        raise ModelFilesWrong(str(folder), faults)
