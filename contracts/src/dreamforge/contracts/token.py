"""A name as it stands in subjects: for settings, without what is named."""

from typing import Annotated

from pydantic import StringConstraints

# One token of a NATS subject: no dots, blanks or wildcards. 64 characters is our bound, not NATS's.
Token = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
