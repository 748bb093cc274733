"""Registers a model whose files are here, unless its id belongs to another one."""

import shlex
from contextlib import suppress
from pathlib import Path
from typing import Any

from dreamforge.cli.failure import CommandError, Exit
from dreamforge.cli.models.errors import RegisteredWithOtherFiles
from dreamforge.cli.models.library import ModelLibrary
from dreamforge.cli.models.registry import registry_client
from dreamforge.cli.settings import CliSettings
from dreamforge.contracts.errors import DependencyAway
from dreamforge.contracts.model_registry import RegisterModel
from dreamforge.contracts.models.descriptor import ModelDescriptor
from dreamforge.contracts.models.descriptor_file import CatalogEntry
from dreamforge.contracts.models.source import licences_of
from dreamforge.runtime import clock

Result = dict[str, Any]  # Any: JSON, as --json prints it


async def refuse_other_files_of_id(settings: CliSettings, descriptor: ModelDescriptor) -> None:
    """Errors: RegisteredWithOtherFiles. Where the registry is unavailable, `register` says so later."""
    with suppress(DependencyAway):
        async with registry_client(settings) as registry:
            state = await registry.state(descriptor.model_id)
        known = state.descriptor
        if known is not None and state.available and known.digest != descriptor.digest:
            raise RegisteredWithOtherFiles(descriptor.model_id, known.digest, descriptor.digest)


async def register(settings: CliSettings, descriptor: ModelDescriptor, folder: Path, facts: str = "") -> Result:
    """Register a model; what is printed, with `facts` about it. Errors: CommandError, Conflict."""
    model_id = descriptor.model_id
    command = RegisterModel(clock.now(), descriptor, by_hand=True)
    try:
        async with registry_client(settings) as registry:
            events = await registry.execute(model_id, command)
    except DependencyAway as error:
        again = f"dreamforge models add {shlex.quote(str(folder))}"
        hint = f"start the stack, then `{again}`; a runner with these files registers it too"
        message = f"the files of {model_id} are right, but the registry is unavailable: {error}"
        raise CommandError(message, Exit.UNAVAILABLE, {"folder": str(folder)}, hint) from error
    message = f"{model_id} is registered" if events else f"{model_id} was already registered"
    message += f": {facts}" if facts else ""
    if ModelLibrary(settings.models_dir).contains(folder):
        return result(descriptor, message)
    hint = f"no runner reads this folder: use `dreamforge models download {model_id} --from {shlex.quote(str(folder))}`"
    return result(descriptor, message, hint)


def result(model: ModelDescriptor | CatalogEntry, message: str, hint: str = "") -> Result:
    """What a command prints."""
    licences = "; ".join(licences_of(model.licence, model.source))
    return {"model": model.model_dump(mode="json"), "licence": licences, "said": message, "next": hint}
