"""Of a machine that joined a stack elsewhere: whether the first machine answers, is that one, and knows this runner."""

from collections.abc import AsyncIterator
from pathlib import Path

from dreamforge.cli.doctor.findings import Finding, fault, ok
from dreamforge.cli.failure import CommandError
from dreamforge.cli.remote.first_machine import ask_access, first_machine
from dreamforge.cli.remote.membership import Membership
from dreamforge.runtime.tls.client_context import client_context

CHECK = "joined"


def has_joined(state_dir: Path) -> bool:
    """Whether this folder has joined a stack elsewhere."""
    return Membership(state_dir).seed_file.exists()


async def check_joined(state_dir: Path) -> AsyncIterator[Finding]:
    """One finding. Errors: CommandError, InvalidSettings where what was kept is damaged."""
    membership = Membership(state_dir)
    machine, context = membership.machine(), client_context(membership.authority_file, "the first machine's authority")
    assert context is not None
    runner_id = machine.access.runner_id
    async with first_machine(machine.url, context, membership.seed(), runner_id) as client:
        try:
            await ask_access(client, runner_id)
        except CommandError as error:
            why = "; ".join(error.facts.values())
            remedy = error.hint or f"on the first machine: dreamforge runner add {runner_id}"
            yield fault(CHECK, f"{error}: {why}", remedy)
            return
    yield ok(CHECK, f"runner {runner_id} is known at {machine.url}")
