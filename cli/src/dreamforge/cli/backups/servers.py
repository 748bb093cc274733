"""The servers that a copy is made of or put into: those that settings name or that run here, else the folder's own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dreamforge.cli.failure import CommandError, Exit
from dreamforge.cli.local_parts import require_local_parts
from dreamforge.cli.settings import CliSettings, with_running_stack, with_servers
from dreamforge.cli.stack_record import read_record

SERVER_SETTINGS = frozenset({"nats_url", "s3_endpoint"})


@asynccontextmanager
async def servers_of(given: CliSettings, purpose: str, *, may_be_new: bool) -> AsyncIterator[CliSettings]:
    """Settings with their addresses. Without a running stack the embedded ones are started, and stopped at the end.

    Errors: CommandError when the command is installed without servers, or where there is no installation and it may not
    be a new one, EmbeddedError, FolderInUse.
    """
    if (record := read_record(given.state_dir)) is not None:
        yield with_running_stack(given, record)
        return
    if given.model_fields_set >= SERVER_SETTINGS:
        yield given
        return
    require_local_parts()
    from dreamforge.cli.stack.servers import embedded_servers, start_all, stop_all
    from dreamforge.runtime.embedded.folder import FolderLock
    from dreamforge.runtime.private_folder import make_private

    state_dir = given.state_dir.absolute()
    if not (may_be_new or state_dir.is_dir()):
        hint = "go to the folder of `dreamforge up`, or name its servers with FORGE_NATS_URL and FORGE_S3_ENDPOINT"
        raise CommandError("there is no installation in this folder", Exit.REFUSED, {"missing": str(state_dir)}, hint)
    make_private(state_dir)
    lock = FolderLock(state_dir, purpose)
    await lock.acquire()
    try:
        servers = embedded_servers(state_dir, {*given.model_fields_set, "database_url"}, prefix=given.nats_prefix)
        await start_all(servers)
        try:
            addresses = {name: value for server in servers for name, value in server.settings_env().items()}
            yield with_servers(given, addresses)
        finally:
            await stop_all(servers)
    finally:
        lock.release()
