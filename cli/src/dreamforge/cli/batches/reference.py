"""Which batch an argument means: an id, its first or last characters, or `last`."""

from dreamforge.cli.client.gateway import GatewayClient
from dreamforge.cli.failure import CommandError, Exit
from dreamforge.cli.jobs.job_reference import JOB_ID, LAST, PART

HELP = "The batch's id, its first or last characters, or `last` for your newest batch."
# Parts are looked for among the newest batches only.
PAGE_BATCHES = 200
_HINT = "`dreamforge batches list` shows the ids; their first or last characters, at least 4, or `last` are enough"


async def batch_id_of(gateway: GatewayClient, text: str) -> str:
    """The id of the batch that `text` means. Errors: CommandError when there is none, or several; ProblemError."""
    text = text.strip().lower()
    if JOB_ID.fullmatch(text):
        return text
    if text != LAST and PART.fullmatch(text) is None:
        raise CommandError(f"{text!r} is not the id of a batch", Exit.REFUSED, hint=_HINT)
    page = await gateway.read("/v1/batches", limit=PAGE_BATCHES, tenant=gateway.tenant if text == LAST else None)
    ids = [str(each["batch_id"]) for each in page["batches"]]
    found = ids[:1] if text == LAST else [each for each in ids if each.startswith(text) or each.endswith(text)]
    if len(found) != 1:
        what = f"{len(found) or 'none'} of the newest {PAGE_BATCHES} batches has an id that begins or ends with {text}"
        raise CommandError(f"tenant {gateway.tenant} has no batch" if text == LAST else what, Exit.REFUSED, hint=_HINT)
    return found[0]
