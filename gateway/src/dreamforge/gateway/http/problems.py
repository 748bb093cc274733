"""The one place where errors become RFC 9457 problem documents."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from dreamforge.contracts import errors as e
from dreamforge.contracts.request import errors as r
from dreamforge.gateway.http import errors as own
from dreamforge.gateway.http.errors import InvalidRequest, Violation, pointer

MEDIA_TYPE = "application/problem+json"
# How long a client should wait before it retries: a dependency is back, or a job is done, within seconds.
RETRY_AFTER_SECONDS = 2

# First match wins, so leaves come before their parents.
STATUS_OF: tuple[tuple[type[e.ForgeError], int, str], ...] = (
    (own.NotJson, 400, "The body is not JSON"),
    (own.Malformed, 400, "A header or parameter cannot be read"),
    (own.BodyTooLarge, 413, "The body is too large"),
    (own.UnsupportedMedia, 415, "The body has a type that is not accepted"),
    (own.HostNotAllowed, 421, "This gateway does not answer to that host name"),
    (own.CrossOrigin, 403, "A page of another origin may not do that"),
    (own.NotAuthenticated, 401, "An API key is needed"),
    (own.TokenRefused, 401, "The token is not accepted"),
    (own.RunnerRefused, 401, "The runner is not known here"),
    (own.SignInUnknown, 400, "There is no such sign-in"),
    (own.CsrfTokenNeeded, 403, "A header is missing"),
    (own.ScopeNeeded, 403, "The API key does not allow that"),
    (own.NothingToImport, 422, "The picture does not say how it was made"),
    (own.WorkflowRefused, 400, "The workflow cannot become a job"),
    (own.BadPicture, 422, "The upload is not a valid image of its type"),
    (own.UnknownUpload, 422, "There is no such upload"),
    (own.InvalidRequest, 422, "The request has wrong fields"),
    (r.UnknownModel, 422, "There is no such model"),
    (r.UnknownPreset, 422, "The model has no such preset"),
    (r.NotAPipeline, 422, "This is not a pipeline"),
    (r.NotAllowed, 422, "The model does not accept that"),
    (r.FieldNeeded, 422, "A field is missing"),
    (r.UnknownAsset, 422, "There is no such LoRA or ControlNet"),
    (r.BatchTooLarge, 422, "The batch would have too many jobs"),
    (r.TemplateRefused, 422, "A prompt template cannot be expanded"),
    (r.UnknownLora, 422, "The prompt names a LoRA that is not registered"),
    (r.LoraTagUnsupported, 422, "The prompt has a LoRA tag that is not taken"),
    (r.AssetMismatch, 422, "The LoRA or ControlNet is for other models"),
    (r.NamedTwice, 422, "The same asset is named twice in the request"),
    (r.OutOfBounds, 422, "A value is out of bounds"),
    (e.SizeNotSupported, 422, "The size is not supported"),
    (r.ModelTooLarge, 422, "No runner is large enough"),
    (r.QuantisationUnavailable, 422, "No runner computes so"),
    (e.InvalidInput, 422, "The request is not valid"),
    (e.JobNotFound, 404, "There is no such job"),
    (e.BatchNotFound, 404, "There is no such batch"),
    (e.WebhookNotFound, 404, "There is no such webhook"),
    (e.ArtifactNotFound, 404, "There is no such artifact"),
    (own.UploadNotFound, 404, "There is no such upload"),
    (e.NotFound, 404, "Not found"),
    (e.JobWasErased, 410, "The job that the Idempotency-Key has made was deleted"),
    (e.WebhookKeyUsed, 409, "The Idempotency-Key was used for another webhook"),
    (e.IdempotencyConflict, 409, "The Idempotency-Key was used for something else"),
    (own.SequenceNotGiven, 409, "There is no such write yet"),
    (own.SequenceOfOtherLog, 409, "The write was in another log"),
    (own.JobNotCompleted, 422, "The job ended without its images"),
    (own.WebhooksOff, 409, "There are no webhooks here"),
    (e.Conflict, 409, "The state does not allow that"),
    (e.QueueFull, 429, "The queue is full"),
    (e.QuotaExceeded, 429, "A quota of the tenant is used up"),
    (own.WebhooksFull, 429, "The tenant has the maximum of webhooks"),
    (e.LimitReached, 429, "A limit was reached"),
    (own.ProjectionBehind, 503, "The read tables are behind"),
    (e.ArchiveBroken, 503, "Events of an old job are missing"),
    (e.OtherLog, 503, "The read tables belong to another log"),
    (own.StreamsFull, 503, "Too many event streams are open"),
    (own.StillRunning, 504, "The images take longer than this interface waits"),
    (own.UploadsFull, 503, "Too many uploads are being received"),
    (e.DependencyAway, 503, "A dependency is not available"),
    (e.Unavailable, 503, "Not available now"),
    (e.ForgeError, 500, "Something went wrong here"),
)
# Those that name the field they are about.
FIELD_ERRORS = (
    r.OutOfBounds,
    r.NotAllowed,
    r.FieldNeeded,
    r.UnknownAsset,
    r.UnknownLora,
    r.LoraTagUnsupported,
    r.TemplateRefused,
    r.AssetMismatch,
    r.NamedTwice,
    own.UnknownUpload,
)
NO_SUCH_ROUTE = "There is nothing here; /docs lists every route"
# Codes of errors outside the tree: the routing of the framework, and bugs.
HTTP_CODES = {404: "no_such_route", 405: "method_not_allowed", 416: "range_not_satisfiable", 500: "internal"}


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem document and the headers that belong to it."""

    status: int
    code: str
    title: str
    detail: str
    errors: tuple[Violation, ...] = ()
    extra: Mapping[str, object] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self, *, instance: str = "", request_id: str = "", root: str = "") -> bytes:
        """The document as JSON. `instance` is the path that was asked for, `root` the prefix of every path."""
        document: dict[str, object] = {
            "type": f"{root}/docs#problem-{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
        }
        optional = {"instance": instance, "request_id": request_id, "errors": [v.as_json() for v in self.errors]}
        document |= {key: value for key, value in optional.items() if value}
        return json.dumps(document | dict(self.extra)).encode()


def problem_of(error: e.ForgeError) -> Problem:
    """The problem document of an error: its fields, but never the text of a dependency."""
    status, title = next((status, title) for kind, status, title in STATUS_OF if isinstance(error, kind))
    headers = {"Retry-After": str(_retry_after_seconds(error))} if status in (429, 503) else {}
    if status == 401:
        headers = {"WWW-Authenticate": "Nkey" if isinstance(error, own.RunnerRefused) else "Bearer"}
    if isinstance(error, own.StillRunning):
        headers = {"X-Should-Retry": "false"}  # what SDKs repeat by themselves would be painted twice
    match error:
        case InvalidRequest():
            return Problem(status, error.code, title, str(error), error.violations)
        case e.DependencyAway():
            detail = f"{error.dependency} is not available; try again in {RETRY_AFTER_SECONDS} s"
            return Problem(status, error.code, title, detail, (), {"dependency": error.dependency}, headers)
    if status == 500:
        return Problem(500, "internal", title, "The error was logged under the request id")
    return Problem(status, error.code, title, str(error), _places(error), _fields(error), headers)


def _retry_after_seconds(error: e.ForgeError) -> int:
    return error.retry_after_seconds if isinstance(error, e.QuotaExceeded) else RETRY_AFTER_SECONDS


def http_problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Problem:
    """A problem that the framework found: no such route, method not allowed."""
    code = HTTP_CODES.get(status, f"http_{status}")
    return Problem(status, code, detail.rstrip(".") or code, detail, headers=headers or {})


def _places(error: e.ForgeError) -> tuple[Violation, ...]:
    """The fields of the body that an error is about, for errors found after parsing."""
    names: tuple[str, ...] = {
        r.UnknownModel: ("model_id",),
        r.NotAPipeline: ("model_id",),
        r.ModelTooLarge: ("model_id",),
        r.QuantisationUnavailable: ("quantisation",),
        r.UnknownPreset: ("preset",),
        e.SizeNotSupported: ("width_px", "height_px"),
    }.get(type(error), ())
    if isinstance(error, FIELD_ERRORS):  # "loras/1/model_id", or "prompt (characters)"
        names = ("width_px", "height_px") if error.field == "pixels" else (error.field.split(" ")[0],)
    return tuple(Violation(str(error), pointer(tuple(name.split("/")))) for name in names)


def _fields(error: e.ForgeError) -> dict[str, object]:
    taken = ("type", "title", "status", "detail", "code", "instance", "errors", "request_id")
    return {key: value for key, value in error.details().items() if key not in taken}
