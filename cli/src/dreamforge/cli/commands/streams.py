"""`dreamforge streams`: what the administrator of NATS does for an installation: its streams, seeds and permissions."""

import typer

from dreamforge.cli import settings as cli_settings
from dreamforge.cli.client.event_log import connect_bus
from dreamforge.cli.console import Json, emit, err, out, run
from dreamforge.cli.settings import CliSettings
from dreamforge.cli.tables import table_of
from dreamforge.runtime.log.bus import ApiError, refusal
from dreamforge.runtime.log.names import Names
from dreamforge.runtime.log.seeds import new_seed, public_key_of
from dreamforge.runtime.log.streams import UNCHANGED, ensure_streams
from dreamforge.runtime.log.users_text import services_text

app = typer.Typer(
    help="Create the streams on NATS, and make users for the services (docs/bus-permissions.md).",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@app.command()
def create(json: Json = False) -> None:
    """Create the streams that are missing, and update those of another release. Services only look for them.

    `dreamforge up` does it by itself. FORGE_NATS_URL must be that of an administrator.

    Example: FORGE_NATS_URL=nats://admin:...@nats:4222 FORGE_STREAM_REPLICAS=3 dreamforge streams create
    """
    done = run(_create(cli_settings.load()))
    if json:
        emit(done)
        return
    table = table_of("stream", "is")
    for name, what in done.items():
        table.add_row(name, what, style="dim" if what == UNCHANGED else "")
    out.print(table)


async def _create(settings: CliSettings) -> dict[str, str]:
    async with connect_bus(settings) as bus:
        try:
            return await ensure_streams(
                bus, replicas=settings.stream_replicas, audit_days=settings.audit_retention_days
            )
        except ApiError as error:
            raise refusal(error, "the streams") from error


@app.command()
def seed() -> None:
    """Make a seed for the NATS user of a service: printed once, to be kept in a file of mode 0600.

    The service reads it from FORGE_NATS_SEED_FILE; the server's configuration has the public key.

    Example: (umask 077; dreamforge streams seed > gateway.seed)
    """
    made = new_seed()
    out.print(made, markup=False, soft_wrap=True)
    err.print(f"public key for the configuration of nats-server: {public_key_of(made)}", markup=False, soft_wrap=True)


@app.command()
def permissions() -> None:
    """Print what each service may do on NATS, as configuration of nats-server. With FORGE_NATS_PREFIX, if it is set."""
    out.file.write(services_text(Names(cli_settings.load().nats_prefix)))
