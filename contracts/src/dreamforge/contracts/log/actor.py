"""Who caused an event, and from where: attributes of its envelope, so that every fact can have them. Pure.

`ce-authtype` and `ce-authid` are those of the CloudEvents extension for authentication context; the others are ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args
from urllib.parse import quote, unquote

ActorKind = Literal["api_key", "app_user", "user", "unauthenticated"]
"""A key; a subject of the OpenID Connect provider; an operator at a command line; a gateway that asks for nothing."""
USER_AGENT_CHARS_MAX = 200
_SAFE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


@dataclass(frozen=True, slots=True)
class Actor:
    """`id`: of the key, the subject or the operator. `tenant`: whom the credential is of. `address`: of the client."""

    kind: ActorKind
    id: str = ""
    tenant: str = ""
    address: str = ""
    user_agent: str = ""

    def headers(self) -> dict[str, str]:
        """As headers of a message, in printable ASCII; what is not known is left out.

        >>> Actor("api_key", "7k2m9q4x1c", address="10.0.0.7").headers()
        {'ce-authtype': 'api_key', 'ce-authid': '7k2m9q4x1c', 'ce-clientaddress': '10.0.0.7'}
        """
        agent = self.user_agent[:USER_AGENT_CHARS_MAX]
        values = (self.kind, self.id, self.tenant, self.address, agent)
        return {name: quote(value, safe=_SAFE) for name, value in zip(_NAMES, values, strict=True) if value}

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> "Actor | None":
        """The actor in headers; None where there is none that can be read.

        >>> Actor.of(Actor("app_user", "jörg", user_agent="x\\n").headers())
        Actor(kind='app_user', id='jörg', tenant='', address='', user_agent='x\\n')
        """
        if headers.get(_NAMES[0]) not in _KINDS:
            return None
        kind, *rest = (unquote(headers.get(name, "")) for name in _NAMES)
        return cls(kind, *rest)  # type: ignore[arg-type]  # checked above


_KINDS = frozenset(get_args(ActorKind))
_NAMES = ("ce-authtype", "ce-authid", "ce-authtenant", "ce-clientaddress", "ce-clientagent")
