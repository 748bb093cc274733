"""The token that `runner add` prints and `runner join` takes: all that another machine needs to trust this one.

It holds the runner's own secret, so it is shown once and is good for one runner until it is removed. Pure.
"""

import base64
import binascii
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from dreamforge.contracts.errors import InvalidInput
from dreamforge.contracts.models.descriptor import Token

PREFIX = "forge-join-1."


class JoinTokenInvalid(InvalidInput):
    """A text that is no token of `runner add`."""

    code = "join_token_invalid"


class JoinToken(BaseModel):
    """Where the first machine is, by what it is known, and the credential of one runner."""

    model_config = ConfigDict(frozen=True)

    runner_id: Token
    addresses: Annotated[tuple[str, ...], Field(min_length=1, description="host:port of the first machine")]
    fingerprint: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
    seed: Annotated[str, StringConstraints(pattern="^SU[A-Z2-7]{56}$")]
    expires_at: AwareDatetime

    def encoded(self) -> str:
        """The token as text: letters, digits, `.`, `-` and `_`."""
        return PREFIX + base64.urlsafe_b64encode(self.model_dump_json().encode()).decode().rstrip("=")


def parse_join_token(text: str) -> JoinToken:
    """The token in a text. Errors: JoinTokenInvalid."""
    encoded = text.strip().removeprefix(PREFIX)
    try:
        if encoded == text.strip():
            raise ValueError
        return JoinToken.model_validate_json(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
    except (ValueError, binascii.Error, ValidationError):
        reason = "it is no token of `dreamforge runner add`, or not all of one: copy the whole line that begins with"
        raise JoinTokenInvalid(f"{reason} {PREFIX}") from None
