"""`dreamforge certificate`: a certificate for signing pictures, to try content credentials out."""

import os
from pathlib import Path
from typing import Annotated

import typer

from dreamforge.cli.console import out
from dreamforge.cli.failure import CommandError, Exit
from dreamforge.runtime import clock

app = typer.Typer(help="Make a certificate that pictures are signed with.", no_args_is_help=True)


@app.callback()
def certificate() -> None:
    """Has one command so far."""


@app.command()
def create(
    folder: Annotated[Path, typer.Argument(help="Where the three files are written; it must not have them yet.")],
    organization: Annotated[str, typer.Option(help="Who signs, as others read it.")] = "Dream Forge",
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long it is valid.")] = 365,
) -> None:
    """Make an authority of your own and one certificate by it: chain.pem, key.pem and authority.pem.

    Others see the signature as valid, and trust it once they have authority.pem. The authority's own key is not kept.

    Example: dreamforge certificate create certificates
    """
    from dreamforge.runtime.pictures.certificate import make_certificate

    made = make_certificate(organization, clock.now(), days)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / "key.pem", made.key, 0o600)
        _write(folder / "chain.pem", made.chain, 0o644)
        _write(folder / "authority.pem", made.authority, 0o644)
    except OSError as error:
        raise CommandError(f"cannot write {error.filename}: {error.strerror}", Exit.REFUSED) from None
    out.print(f"FORGE_RUNNER_CERTIFICATE={folder / 'chain.pem'}", markup=False, soft_wrap=True)
    out.print(f"FORGE_RUNNER_CERTIFICATE_KEY={folder / 'key.pem'}", markup=False, soft_wrap=True)


def _write(path: Path, text: str, mode: int) -> None:
    """A new file, never another's. Errors: OSError."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(text)
