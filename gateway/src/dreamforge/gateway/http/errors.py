"""Errors that only the gateway raises, as leaves of the one error tree."""

from collections.abc import Mapping
from dataclasses import dataclass

from dreamforge.contracts.errors import Conflict, ForgeError, InvalidInput, LimitReached, NotFound, Unavailable
from dreamforge.runtime.network import authority

# A body with ten thousand unknown fields must not be answered with ten thousand explanations.
VIOLATIONS_MAX = 20
# The longest part of a JSON pointer that is shown.
SHOWN_CHARS = 80


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that is wrong: where (a JSON pointer into the body, or a parameter), what, and what would be right."""

    detail: str
    pointer: str | None = None
    parameter: str | None = None

    @property
    def field(self) -> str:
        """Where, for people: the parts of the path with dots between, and a colon before what is wrong with it."""
        where = (self.pointer or "").removeprefix("/").replace("/", ".") or self.parameter or "body"
        return where if self.detail.startswith("is ") else f"{where}:"

    def as_json(self) -> dict[str, str]:
        """Only what is known."""
        found = {"pointer": self.pointer, "parameter": self.parameter, "detail": self.detail}
        return {key: value for key, value in found.items() if value is not None}


def pointer(location: tuple[str | int, ...]) -> str:
    """A JSON pointer (RFC 6901) to a field.

    >>> pointer(("a/b", 0))
    '/a~1b/0'
    """
    parts = (str(part)[:SHOWN_CHARS].replace("~", "~0").replace("/", "~1") for part in location)
    return "".join(f"/{part}" for part in parts)


@dataclass(eq=False)
class InvalidRequest(InvalidInput):
    """The request is well-formed, and one or more of its fields cannot be right."""

    code = "invalid_request"
    violations: tuple[Violation, ...]

    def __str__(self) -> str:
        first = self.violations[0]
        more = f" (and {len(self.violations) - 1} more)" if len(self.violations) > 1 else ""
        return f"{first.field} {first.detail}{more}"


@dataclass(eq=False)
class NotJson(InvalidInput):
    """The body is not a JSON document."""

    code = "not_json"
    reason: str

    def __str__(self) -> str:
        return f"the body is not JSON: {self.reason}"


@dataclass(eq=False)
class Malformed(InvalidInput):
    """A header or parameter has no readable value."""

    code = "malformed"
    parameter: str
    expected: str

    def __str__(self) -> str:
        return f"{self.parameter} cannot be read: it must be {self.expected}"


@dataclass(eq=False)
class BodyTooLarge(InvalidInput):
    """More bytes than a body may have."""

    code = "body_too_large"
    maximum_bytes: int

    def __str__(self) -> str:
        return f"the body is larger than {self.maximum_bytes} bytes"


@dataclass(eq=False)
class UnsupportedMedia(InvalidInput):
    """The type of an upload is not accepted."""

    code = "unsupported_media_type"
    given: str
    allowed: tuple[str, ...]

    def __str__(self) -> str:
        given = f"Content-Type is {self.given!r}" if self.given else "Content-Type is missing"
        return f"{given}, but must be one of: {', '.join(self.allowed)}"


@dataclass(eq=False)
class HostNotAllowed(InvalidInput):
    """The Host header has a name that this gateway does not answer to: a rebound name, or one to be configured."""

    code = "host_not_allowed"
    host: str

    def __str__(self) -> str:
        return (
            f"the request names the host {self.host!r}, which this gateway does not answer to: use its address, or add "
            "the name to FORGE_GATEWAY_HOSTS"
        )


@dataclass(eq=False)
class CrossOrigin(InvalidInput):
    """A page of another origin tried to change something here."""

    code = "cross_origin"
    origin: str

    def __str__(self) -> str:
        return (
            f"a page of the origin {self.origin!r} may not change anything here; if it is yours, add it to "
            "FORGE_GATEWAY_ORIGINS"
        )


@dataclass(eq=False)
class NotAuthenticated(InvalidInput):
    """The request does not say who it comes from, and must."""

    code = "not_authenticated"
    reason: str

    def __str__(self) -> str:
        return f"{self.reason}: send one as `Authorization: Bearer forge_...` (`dreamforge keys create NAME` makes one)"


@dataclass(eq=False)
class TokenRefused(InvalidInput):
    """A token or session of the OpenID Connect provider does not say who the request comes from."""

    code = "token_refused"
    reason: str

    def __str__(self) -> str:
        return f"{self.reason}: sign in again, or send a newer token as `Authorization: Bearer ...`"


@dataclass(eq=False)
class SignInUnknown(InvalidInput):
    """A browser comes back from the provider that was not sent there, or too long ago."""

    code = "sign_in_unknown"

    def __str__(self) -> str:
        return "this browser began no such sign-in in the last minutes: begin again"


@dataclass(eq=False)
class CsrfTokenNeeded(InvalidInput):
    """A write with the cookie of a session does not prove that a page of this gateway made it."""

    code = "csrf_token_needed"

    def __str__(self) -> str:
        return (
            "a write with the cookie of a session needs the header Forge-CSRF-Token, with the csrf_token that "
            "GET /v1/me answers to that session"
        )


@dataclass(eq=False)
class ScopeNeeded(InvalidInput):
    """The API key is valid, and does not allow this."""

    code = "scope_needed"
    scope: str

    def __str__(self) -> str:
        return f"this needs an API key with the scope {self.scope!r}"


@dataclass(eq=False)
class StillRunning(Unavailable):
    """An interface that answers with the images was asked, and they take longer than it waits."""

    code = "still_running"
    job_id: str
    seconds: float

    def __str__(self) -> str:
        return (
            f"job {self.job_id} has not ended within {self.seconds:g} s and goes on: its images will be in "
            f"GET /v1/jobs/{self.job_id}"
        )


@dataclass(eq=False)
class JobNotCompleted(Conflict):
    """An interface that answers with the images was asked, and the job ended without them."""

    code = "job_not_completed"
    job_id: str
    ended: str
    reason: str | None

    def __str__(self) -> str:
        said = f": {self.reason}" if self.reason else ""
        return f"job {self.job_id} has {self.ended}{said}"


@dataclass(eq=False)
class NothingToImport(InvalidInput):
    """A picture says nothing of how it was made."""

    code = "nothing_to_import"
    programs: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"the picture has no request of {', '.join(self.programs)} in it: many sites and editors remove it, so "
            "take the file as its program has saved it"
        )


@dataclass(eq=False)
class WorkflowRefused(InvalidInput):
    """A ComfyUI workflow cannot become a job: what is wrong, by node."""

    code = "workflow_refused"
    kind: str
    message: str
    reason: str
    node_errors: Mapping[str, object]

    def __str__(self) -> str:
        return f"{self.message}: {self.reason}" if self.reason else self.message


@dataclass(eq=False)
class BadPicture(InvalidInput):
    """An upload is not the image that its type and header announce."""

    code = "bad_picture"
    reason: str

    def __str__(self) -> str:
        return f"the upload is not a picture we can take: {self.reason}"


@dataclass(eq=False)
class UnknownUpload(InvalidInput):
    """A request names an image that was neither uploaded nor rendered here."""

    code = "unknown_upload"
    field: str
    value: str

    def __str__(self) -> str:
        return (
            f"{self.field} names {self.value}, which is neither an upload nor a picture that was rendered here: "
            "POST it to /v1/uploads first"
        )


@dataclass(eq=False)
class UploadNotFound(NotFound):
    """There is no upload with this hash."""

    code = "upload_not_found"
    sha256: str

    def __str__(self) -> str:
        return f"there is no upload {self.sha256!r}"


@dataclass(eq=False)
class PageNotFound(NotFound):
    """Something this installation does not have, with a hint how to get it."""

    code = "not_found"
    hint: str

    def __str__(self) -> str:
        return self.hint


@dataclass(eq=False)
class SequenceNotGiven(Conflict):
    """A read requires a write that does not exist yet."""

    code = "sequence_not_given"
    wanted: int
    newest: int

    def __str__(self) -> str:
        return f"no write has answered sequence {self.wanted}: the log is at {self.newest}"


@dataclass(eq=False)
class SequenceOfOtherLog(Conflict):
    """A read requires a write of another log."""

    code = "sequence_of_other_log"
    given: str
    log: str

    def __str__(self) -> str:
        return f"the write was in log {self.given}, which was replaced by log {self.log}: look what became of it"


@dataclass(eq=False)
class ProjectionBehind(Unavailable):
    """The read tables have not reached the sequence that a read asked for."""

    code = "projection_behind"
    wanted: int
    reached: int

    def __str__(self) -> str:
        return f"the read tables are at sequence {self.reached}, and {self.wanted} was asked for"


@dataclass(eq=False)
class StreamsFull(Unavailable):
    """This gateway has the maximum of event streams open."""

    code = "streams_full"
    maximum: int

    def __str__(self) -> str:
        return f"{self.maximum} event streams are open here, which is the maximum; another gateway may accept more"


@dataclass(eq=False)
class UploadsFull(Unavailable):
    """This gateway receives the maximum of uploads."""

    code = "uploads_full"
    maximum: int

    def __str__(self) -> str:
        return f"{self.maximum} uploads are being received here, which is the maximum (FORGE_GATEWAY_UPLOADS)"


@dataclass(eq=False)
class WebhooksOff(Conflict):
    """No key is set that could seal the secrets of webhooks."""

    code = "webhooks_off"

    def __str__(self) -> str:
        return (
            "this installation sends no webhooks: its operator sets FORGE_GATEWAY_WEBHOOK_KEY (`openssl rand -hex 32`)"
        )


@dataclass(eq=False)
class WebhooksFull(LimitReached):
    """The tenant has the maximum of webhooks."""

    code = "webhooks_full"
    maximum: int

    def __str__(self) -> str:
        return f"the tenant has {self.maximum} webhooks, which is the maximum: delete one first"


@dataclass(eq=False)
class RunnerRefused(ForgeError):
    """A request to the listener for runners that no runner with a credential has signed."""

    code = "runner_refused"
    reason: str

    def __str__(self) -> str:
        return self.reason


@dataclass(eq=False)
class ObjectRefused(InvalidInput):
    """A runner of another machine wants to store what is not a picture under its own hash."""

    code = "object_refused"
    key: str
    reason: str

    def __str__(self) -> str:
        return f"{self.key} is not stored: {self.reason}"


@dataclass(eq=False)
class GatewayPortInUse(ForgeError):
    """Another process listens on the port of the gateway."""

    code = "port_in_use"
    host: str
    port: int
    reason: str

    def __str__(self) -> str:
        where = authority(self.host, self.port)
        return f"cannot listen on {where} ({self.reason}); set FORGE_GATEWAY_HOST or FORGE_GATEWAY_PORT to another"
