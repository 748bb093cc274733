"""What the client raises: one tree below `ClientError`. Refusals are classes by their kind; `code` says which."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from dreamforge.contracts.errors import ForgeError, InvalidInput, Unavailable

if TYPE_CHECKING:
    import httpx

    from dreamforge.contracts.replies import JobReply


class ClientError(ForgeError):
    """Root of everything that the client raises on purpose."""

    code: ClassVar[str] = "client"


@dataclass(eq=False)
class InvalidConnection(ClientError, InvalidInput):
    """An argument or a variable of the environment cannot be used to reach a gateway."""

    code = "invalid_connection"
    what: str

    def __str__(self) -> str:
        return self.what


@dataclass(eq=False)
class GatewayUnavailable(ClientError, Unavailable):
    """No try got an answer."""

    code = "gateway_unavailable"
    base_url: str
    reason: str

    def __str__(self) -> str:
        return f"no gateway answers at {self.base_url}"


@dataclass(eq=False)
class WaitTimeout(ClientError, TimeoutError):
    """What was waited for has not ended within the time that the caller gave; it goes on."""

    code = "wait_timeout"
    what: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.what} has not ended within {self.seconds:g} s; it goes on"


@dataclass(eq=False)
class JobNotSucceeded(ClientError):
    """A job ended without all of its pictures: it failed or was cancelled. `job` has what there is."""

    code = "job_not_succeeded"
    job: "JobReply"

    def __str__(self) -> str:
        ended = "was cancelled" if self.job.status == "cancelled" else self.job.status
        reason = self.job.failure_message or self.job.failure_reason
        return f"job {self.job.job_id} {ended}" + (f": {reason}" if reason else "")


@dataclass(eq=False)
class DamagedDownload(ClientError):
    """The bytes that arrived are not those that were rendered."""

    code = "damaged_download"
    url: str
    expected_sha256: str
    found_sha256: str

    def __str__(self) -> str:
        return f"{self.url} has the SHA-256 {self.found_sha256}, but must have {self.expected_sha256}"


@dataclass(eq=False)
class UnreadableReply(ClientError):
    """A reply that this release of the client does not understand: the gateway is newer, or is not one."""

    code = "unreadable_reply"
    request: str
    reason: str

    def __str__(self) -> str:
        return f"{self.request} answered what this client cannot read, a newer release may: {self.reason}"


@dataclass(frozen=True, slots=True)
class Place:
    """Something that is wrong with a request: `pointer` (RFC 6901) into the body, or the name of a parameter."""

    detail: str
    pointer: str | None = None
    parameter: str | None = None

    def __str__(self) -> str:
        colon = "" if self.detail.startswith("is ") else ":"
        return f"{self.pointer or self.parameter or 'body'}{colon} {self.detail}"


@dataclass(eq=False)
class ProblemError(ClientError):
    """The gateway refused, with an RFC 9457 problem document. `code` is stable, for programs."""

    status: int
    request: str
    document: dict[str, Any]  # Any: the members of a problem document are open
    retry_after_seconds: float | None = None

    def __post_init__(self) -> None:
        self.code = str(self.document.get("code", f"http_{self.status}"))  # type: ignore[misc]  # of this instance
        for place in self.places:
            self.add_note(f"  {place}")
        request_id = self.document.get("request_id")
        known_as = f", request {request_id}" if request_id else ""
        self.add_note(f"  {self.request} answered {self.status} {self.code}{known_as}")

    def __str__(self) -> str:
        what = self.document.get("detail") or self.document.get("title") or f"the gateway answered {self.status}"
        return str(what)

    @property
    def places(self) -> tuple[Place, ...]:
        """What is wrong, and where."""
        errors = self.document.get("errors")
        found = [each for each in errors if isinstance(each, dict)] if isinstance(errors, list) else []
        return tuple(
            Place(str(each.get("detail") or each), each.get("pointer"), each.get("parameter")) for each in found
        )


class RequestRefused(ProblemError):
    """The request is wrong (400, 413, 415, 422 and others): the same again is refused again. See `places`."""


class KeyRefused(ProblemError):
    """The gateway asks for an API key, or does not know this one (401)."""


class NotPermitted(ProblemError):
    """The API key does not allow that (403)."""


class ResourceNotFound(ProblemError):
    """There is no such job, picture, batch or model (404), or it was deleted (410)."""


class StateConflict(ProblemError):
    """The state of what was named excludes what was asked (409)."""


class LimitExceeded(ProblemError):
    """A quota or a limit is used up (429). `retry_after_seconds` says when there is room, if that is known."""


class GatewayFailed(ProblemError):
    """Something went wrong in the gateway (500)."""


class GatewayBusy(ProblemError):
    """The gateway or a dependency of it is not available now (502, 503, 504)."""


_KINDS: dict[int, type[ProblemError]] = {
    401: KeyRefused,
    403: NotPermitted,
    404: ResourceNotFound,
    409: StateConflict,
    410: ResourceNotFound,
    429: LimitExceeded,
    502: GatewayBusy,
    503: GatewayBusy,
    504: GatewayBusy,
}


def problem_of(response: "httpx.Response") -> ProblemError:
    """The error of a response that was read and is no success."""
    try:
        document = json.loads(response.content)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        document = {"title": f"the gateway answered {response.status_code} {response.reason_phrase}"}
    kind = _KINDS.get(response.status_code, GatewayFailed if response.status_code >= 500 else RequestRefused)
    request = f"{response.request.method} {response.request.url}"
    return kind(response.status_code, request, document, retry_after_seconds(response))


def retry_after_seconds(response: "httpx.Response") -> float | None:
    """What the header Retry-After says in seconds; None without it (and for a date, which the gateway never sends)."""
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdecimal() else None
