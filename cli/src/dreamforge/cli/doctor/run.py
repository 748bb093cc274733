"""Runs every check that applies, each bounded in time and apart from the others: one fault hides no second one."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

from dreamforge.cli.doctor.configuration import check_configuration
from dreamforge.cli.doctor.disk import check_disk
from dreamforge.cli.doctor.findings import Finding, fault, note
from dreamforge.cli.doctor.gpu import check_gpu
from dreamforge.cli.doctor.joined import check_joined, has_joined
from dreamforge.cli.doctor.machine import check_machine
from dreamforge.cli.doctor.nats import check_nats
from dreamforge.cli.doctor.objects import check_objects
from dreamforge.cli.doctor.postgres import check_postgres
from dreamforge.cli.doctor.services import check_gateway, check_port, check_services
from dreamforge.cli.doctor.state_folder import check_state_folder
from dreamforge.cli.failure import hint_of
from dreamforge.cli.settings import CliSettings
from dreamforge.cli.stack_record import SERVERS, StackRecord
from dreamforge.contracts.errors import ForgeError
from dreamforge.runtime.log.bus import ApiError

CHECK_SECONDS = 15.0
# The setting that names a server of others, and the check that asks it.
SERVER_CHECKS: dict[str, tuple[str, Callable[[CliSettings], AsyncIterator[Finding]]]] = {
    "nats": ("nats_url", check_nats),
    "postgres": ("database_url", check_postgres),
    "objects": ("s3_endpoint", check_objects),
}


async def examine(settings: CliSettings, given: CliSettings, record: StackRecord | None) -> AsyncIterator[Finding]:
    """Findings in the order of the report.

    settings: completed from the running stack, `record`. given: as the environment and the arguments have them.
    """
    local: dict[str, Callable[[], Iterator[Finding]]] = {
        "settings": check_configuration,
        "state folder": lambda: check_state_folder(given.state_dir),
        "disk": lambda: check_disk(given.state_dir),
        "machine": check_machine,
        "gpu": check_gpu,
    }
    if record is None and given.model_fields_set.issuperset(setting for setting, _ in SERVER_CHECKS.values()):
        del local["state folder"], local["disk"]  # all data is on servers of others
    for name, look in local.items():
        for finding in await asyncio.to_thread(_guarded, name, look):
            yield finding
    for name, ask in _remote(settings, given, record):
        for finding in await _bounded(name, ask):
            yield finding


def _remote(
    settings: CliSettings, given: CliSettings, record: StackRecord | None
) -> Iterator[tuple[str, AsyncIterator[Finding]]]:
    """What answers over a socket, as far as it runs or a setting names it."""
    for name, (setting, ask) in SERVER_CHECKS.items():
        if record is not None or setting in given.model_fields_set:
            yield name, ask(settings)
        else:
            yield name, _one(note(name, "no stack runs: `dreamforge up` starts its own"))
    if record is not None or "gateway_url" in given.model_fields_set:
        yield "gateway", check_gateway(settings)
    else:
        yield "gateway", _one(check_port(given))
    if record is not None:
        yield "services", check_services(record, SERVERS)
    if has_joined(given.state_dir):
        yield "joined", check_joined(given.state_dir)


async def _one(finding: Finding) -> AsyncIterator[Finding]:
    yield finding


def _guarded(name: str, look: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """The findings of a check of this machine; what it may not read is one more."""
    found: list[Finding] = []
    try:
        found.extend(look())
    except OSError as error:
        found.append(fault(name, f"could not be looked at: {error}", "see whether this user may read it"))
    return found


async def _bounded(name: str, findings: AsyncIterator[Finding]) -> list[Finding]:
    """The findings of a check; its error, or that it took too long, is one more."""
    found: list[Finding] = []
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            async for finding in findings:
                found.append(finding)  # noqa: PERF401 - what was found before an error stays
    except TimeoutError:
        remedy = "see whether the address in the settings is right, and whether the server runs"
        found.append(fault(name, f"no answer within {CHECK_SECONDS:g} s", remedy))
    except (ForgeError, ApiError) as error:
        hint = hint_of(error) if isinstance(error, ForgeError) else "ask the administrator of NATS for permission"
        one_line = "; ".join(line.strip() for line in str(error).split("\n"))
        found.append(fault(name, one_line, hint or "see the settings: `dreamforge env --settings`"))
    return found
