"""`dreamforge models scan`: which models a folder of another program holds, and to register them where they are."""

import asyncio
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from dreamforge.cli import settings as cli_settings
from dreamforge.cli.client.gateway import Json as JsonObject
from dreamforge.cli.console import Json, emit, out, run
from dreamforge.cli.failure import CommandError, Exit
from dreamforge.cli.models.description import AddOptions
from dreamforge.cli.models.scan import FoundModel, TooManyEntries, layout_of, scan, sha256_of
from dreamforge.cli.settings import CliSettings
from dreamforge.cli.tables import table_of
from dreamforge.contracts.errors import ForgeError
from dreamforge.contracts.readable_sizes import readable_size


def scan_models(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of models of another program.")],
    add: Annotated[bool, typer.Option("--add", help="Register what can be registered, with links, no copies.")] = False,
    kind: Annotated[str, typer.Option("--kind", help="Only of this kind, such as lora or checkpoint.")] = "",
    hashes: Annotated[
        bool, typer.Option("--hash", help="Also the SHA-256 of each file, which reads all of it.")
    ] = False,
    configuration: Annotated[
        str,
        typer.Option(
            "--configuration",
            metavar="OWNER/NAME-or-FOLDER",
            help="For checkpoints in one file: where their configurations are; default: their family's repository.",
        ),
    ] = "",
    json: Json = False,
) -> None:
    """List the models in a folder of ComfyUI, A1111, Forge, SwarmUI or InvokeAI, or in the Hugging Face cache.

    What each file is comes from its header, else from the folder that it is in. No weights and no pickles are read.

    Examples:

      dreamforge models scan ~/ComfyUI/models
      dreamforge models scan ~/stable-diffusion-webui --kind lora --add
      dreamforge models scan ~/.cache/huggingface/hub --add
    """
    if not folder.is_dir():
        raise CommandError(f"{folder} is no folder", Exit.REFUSED, hint="name the folder with the models in it")
    try:
        models = [each for each in scan(folder) if kind in ("", each.kind)]
    except TooManyEntries as error:
        raise CommandError(str(error), Exit.REFUSED) from None
    options = AddOptions(configuration=configuration, link=True)
    added = run(add_all(cli_settings.load(), models, options)) if add else {}
    rows = [_row(each, folder, added.get(each.path), sha256_of(each.path) if hashes else None) for each in models]
    if json:
        emit({"folder": str(folder), "layout": layout_of(folder), "models": rows})
    else:
        _print(rows, layout_of(folder), folder)
    if any(result.startswith("failed") for result in added.values()):
        raise typer.Exit(Exit.FAILED)


async def add_all(settings: CliSettings, models: Iterable[FoundModel], options: AddOptions) -> dict[Path, str]:
    """Register each model that can be registered, one after the other; what came of it. One that fails stops none."""
    from dreamforge.cli.models import add as adding

    results: dict[Path, str] = {}
    for each in models:
        if each.problem:
            continue
        try:
            answer = await adding.add(settings, str(await asyncio.to_thread(each.path.absolute)), options, quiet=True)
        except (ForgeError, OSError) as error:
            results[each.path] = f"failed: {error}"
        else:
            results[each.path] = str(answer["said"])
    return results


def _row(model: FoundModel, folder: Path, result: str | None, sha256: str | None) -> JsonObject:
    row = {
        "path": str(model.path.relative_to(folder)),
        "kind": model.kind,
        "family": model.family,
        "size_bytes": model.size_bytes,
        "problem": model.problem,
    }
    return row | ({"result": result} if result is not None else {}) | ({"sha256": sha256} if sha256 is not None else {})


def _print(rows: list[JsonObject], layout: str, folder: Path) -> None:
    out.print(Text(f"{folder}: {layout or 'no layout that is known'}, {len(rows)} models", "dim"))
    hashed = any("sha256" in row for row in rows)
    table = table_of("kind", "family", "size", "path", *(("sha256",) if hashed else ()))
    for row in rows:
        cells = (row["kind"], row["family"] or "", readable_size(row["size_bytes"]), row["path"])
        table.add_row(*map(Text, cells), *((Text(row["sha256"]),) if hashed else ()))
    out.print(table)
    for row in rows:
        if says := row.get("result") or row["problem"]:
            style = "yellow" if row["problem"] or says.startswith("failed") else "green"
            out.print(Text(f"{row['path']}: {says}", style), soft_wrap=True)
    if not any("result" in row for row in rows) and any(not row["problem"] for row in rows):
        out.print(f"next  dreamforge models scan {shlex.quote(str(folder))} --add", soft_wrap=True)
