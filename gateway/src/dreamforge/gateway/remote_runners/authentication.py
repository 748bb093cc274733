"""Which runner sends a request: it is signed with the seed of that runner, and its public key is here."""

from typing import Annotated

from fastapi import Depends
from loguru import logger
from starlette.requests import Request

from dreamforge.gateway.http.errors import RunnerRefused
from dreamforge.runtime import clock
from dreamforge.runtime.remote.credentials import RunnerCredentials
from dreamforge.runtime.remote.signatures import SKEW_SECONDS, is_signed_by, parse_authorization


def authenticated_runner(request: Request) -> str:
    """The runner's id. Its credential counts as used from now on. Errors: RunnerRefused. Reads a small file."""
    credentials: RunnerCredentials = request.app.state.credentials
    now = clock.now()
    sent = parse_authorization(request.headers.get("authorization", ""))
    if sent is None:
        raise RunnerRefused("the request is not signed by a runner")
    skew_seconds = sent.seconds - now.timestamp()
    if abs(skew_seconds) > SKEW_SECONDS:
        raise RunnerRefused(f"its clock differs from that of this machine by {skew_seconds:+.0f} s: set one of them")
    path = request.scope["raw_path"].decode("latin-1")
    key = credentials.key_of(sent.runner_id, now)
    if key is None or not is_signed_by(sent, key, request.method, path):
        logger.warning("a request as runner {} was refused: its credential is not known here", sent.runner_id)
        raise RunnerRefused(
            f"runner {sent.runner_id} has no such credential here: it was removed or replaced, or not used in time; "
            f"`dreamforge runner add {sent.runner_id}` on the first machine makes another"
        )
    credentials.used(sent.runner_id)
    return sent.runner_id


RunnerId = Annotated[str, Depends(authenticated_runner)]
