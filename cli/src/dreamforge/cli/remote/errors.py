"""Why a machine cannot join: each says what was wrong, and what to do on which machine."""

from dreamforge.cli.failure import CommandError, Exit
from dreamforge.runtime.remote.token import JoinToken


def _another(token: JoinToken) -> str:
    return f"make another on the first machine: dreamforge runner add {token.runner_id}"


def token_expired(token: JoinToken) -> CommandError:
    """It was not used in time."""
    at = f"{token.expires_at:%Y-%m-%d %H:%M} UTC"
    return CommandError(f"the token of runner {token.runner_id} expired at {at}", Exit.REFUSED, hint=_another(token))


def wrong_fingerprint(token: JoinToken, address: str, found: str) -> CommandError:
    """Another authority answered: another installation has this address now, or someone is between."""
    facts = {"at": address, "its authority": found, "the token's": token.fingerprint}
    hint = f"nothing was sent to it. If the first machine was set up anew, {_another(token)}"
    return CommandError("that is not the machine that made the token", Exit.REFUSED, facts, hint)


def not_reachable(reasons: dict[str, str]) -> CommandError:
    """None of the addresses answers."""
    hint = (
        "start it there with `dreamforge up --listen 0.0.0.0`, open the ports (8443 and 4222) in its firewall, or name"
        " its address in FORGE_REMOTE_NAMES there and add the runner again"
    )
    return CommandError("the first machine cannot be reached", Exit.UNAVAILABLE, reasons, hint)


def refused(runner_id: str, reason: str) -> CommandError:
    """The first machine does not know the credential any more."""
    return CommandError(f"the first machine refuses runner {runner_id}", Exit.REFUSED, {"reason": reason})


def not_joined() -> CommandError:
    """There is no token, and none was used in this folder."""
    hint = "on the first machine: dreamforge up --listen 0.0.0.0, then dreamforge runner add NAME"
    return CommandError("this folder has not joined a stack yet: a token is needed", Exit.REFUSED, hint=hint)
