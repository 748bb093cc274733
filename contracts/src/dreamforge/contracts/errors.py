"""The one error tree. Each error carries fields; the gateway maps the tree to problem documents in one place."""

from dataclasses import dataclass
from typing import ClassVar


class ForgeError(Exception):
    """Root of everything Dream Forge raises on purpose.

    `code` is stable and machine-readable; `str(error)` says what was wrong, where, and what would be right.
    """

    code: ClassVar[str] = "internal"

    def details(self) -> dict[str, object]:
        """The error's own fields, for logs and problem documents."""
        return dict(vars(self))


class InvalidInput(ForgeError):
    """The request is wrong: a retry of it fails again."""

    code = "invalid_input"


class NotFound(ForgeError):
    """What was named does not exist."""

    code = "not_found"


class Conflict(ForgeError):
    """The state of what was named excludes what was asked."""

    code = "conflict"


class LimitReached(ForgeError):
    """A configured bound was reached; a later try may succeed."""

    code = "limit_reached"


class Unavailable(ForgeError):
    """A dependency is unavailable; the caller should retry."""

    code = "unavailable"


@dataclass(eq=False)
class WebhookNotFound(NotFound):
    """The tenant has no webhook with this id."""

    code = "webhook_not_found"
    webhook_id: str

    def __str__(self) -> str:
        return f"there is no webhook {self.webhook_id!r}: `dreamforge webhooks list` shows every one"


@dataclass(eq=False)
class UnknownKey(NotFound):
    """There is no API key with this id."""

    code = "unknown_key"
    key_id: str

    def __str__(self) -> str:
        return f"there is no key {self.key_id!r}: `dreamforge keys list` shows every one"


@dataclass(eq=False)
class BatchNotFound(NotFound):
    """No job in the log belongs to such a batch."""

    code = "batch_not_found"
    batch_id: str

    def __str__(self) -> str:
        return f"there is no batch {self.batch_id!r}"


@dataclass(eq=False)
class SizeNotSupported(InvalidInput):
    """A side of the image is not a positive multiple of what the model's autoencoder needs."""

    code = "size_not_supported"
    height_px: int
    width_px: int
    multiple_px: int

    def __str__(self) -> str:
        return (
            f"{self.width_px}x{self.height_px} px is not supported: "
            f"each side must be a positive multiple of {self.multiple_px} px"
        )


@dataclass(eq=False)
class JobNotFound(NotFound):
    """No event of such a job is in the log."""

    code = "job_not_found"
    job_id: str

    def __str__(self) -> str:
        return f"there is no job {self.job_id!r}"


@dataclass(eq=False)
class ArtifactNotFound(NotFound):
    """No succeeded job has stored such an artifact."""

    code = "artifact_not_found"
    artifact_id: str

    def __str__(self) -> str:
        return f"there is no artifact {self.artifact_id!r}"


@dataclass(eq=False)
class IdempotencyConflict(Conflict):
    """The Idempotency-Key was used before, for a different request."""

    code = "idempotency_conflict"
    job_id: str

    def __str__(self) -> str:
        return f"this Idempotency-Key already made job {self.job_id} from a different request: use a new key"


@dataclass(eq=False)
class WebhookKeyUsed(Conflict):
    """The Idempotency-Key was used before, and its answer cannot be given again."""

    code = "webhook_key_used"
    webhook_id: str
    why: str

    def __str__(self) -> str:
        return f"this Idempotency-Key already made webhook {self.webhook_id}, {self.why}: use a new key"


@dataclass(eq=False)
class JobWasErased(Conflict):
    """The job that this Idempotency-Key has made was erased, or is going to be: it is not rendered again."""

    code = "job_erased"
    job_id: str

    def __str__(self) -> str:
        return f"job {self.job_id}, which this Idempotency-Key has made, was deleted: use a new key to render it again"


@dataclass(eq=False)
class StaleAttempt(Conflict):
    """A runner or scheduler acts for an attempt that is not current any more: it is fenced out."""

    code = "stale_attempt"
    attempt: int
    current_attempt: int
    status: str

    def __str__(self) -> str:
        return f"attempt {self.attempt} is not current: the job is {self.status} at attempt {self.current_attempt}"


@dataclass(eq=False)
class ImagesMissing(Conflict):
    """A runner finishes an attempt although not every image of the job is stored."""

    code = "images_missing"
    attempt: int
    missing: tuple[int, ...]

    def __str__(self) -> str:
        return f"attempt {self.attempt} cannot finish: images {', '.join(map(str, self.missing))} are not stored"


@dataclass(eq=False)
class VersionConflict(Conflict):
    """Another event was appended to the aggregate after it was read: load it and decide again."""

    code = "version_conflict"
    subject: str
    expected_version: int

    def __str__(self) -> str:
        return f"{self.subject} has moved past version {self.expected_version}"


@dataclass(eq=False)
class MalformedEvent(ForgeError):
    """A message in the log that no version of Dream Forge wrote."""

    code = "malformed_event"
    subject: str
    reason: str

    def __str__(self) -> str:
        return f"malformed event on {self.subject}: {self.reason}"


@dataclass(eq=False)
class DependencyAway(Unavailable):
    """NATS, Postgres or S3 did not answer."""

    code = "dependency_away"
    dependency: str
    reason: str

    def __str__(self) -> str:
        return f"{self.dependency} is not available: {self.reason}"


@dataclass(eq=False)
class ArchiveBroken(Unavailable):
    """An object of the archive is missing, or has other bytes than the log says: nothing is folded without it."""

    code = "archive_broken"
    reason: str

    def __str__(self) -> str:
        return f"the archive of jobs cannot be read: {self.reason}: bring the object back from a backup"


@dataclass(eq=False)
class BrokerUnfit(ForgeError):
    """The NATS server cannot give our guarantees (too old, no JetStream)."""

    code = "broker_unfit"
    reason: str

    def __str__(self) -> str:
        return f"this NATS server cannot be used: {self.reason}"


@dataclass(eq=False)
class NotOurs(ForgeError):
    """Something on a shared server has the name that we would use, and is not provably ours: it is left as it is."""

    code = "not_ours"
    what: str
    found: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what} belongs to something else ({self.found}); it was not changed: {self.remedy}"


# By these words in an answer of /readyz a caller knows that only a person can decide how it goes on.
ANOTHER_LOG = "belong to another log"


@dataclass(eq=False)
class OtherLog(Unavailable):
    """Tables or objects that were made from another log than the one that NATS has now."""

    code = "other_log"
    what: str
    reason: str

    def __str__(self) -> str:
        return (
            f"{self.what} {ANOTHER_LOG} than the one in NATS: {self.reason}. Nothing is written or deleted until"
            " that is settled: start the right log, if a folder or volume of NATS was lost, replaced or restored, or"
            " name the right database and bucket, if those are of another installation; or accept what is there with"
            " `dreamforge projection rebuild`"
        )


@dataclass(eq=False)
class LogReplaced(ForgeError):
    """The stream that this process follows is not the one that it has read: what it keeps in memory is void."""

    code = "log_replaced"
    stream: str
    reason: str

    def __str__(self) -> str:
        return f"stream {self.stream} was replaced while it was read ({self.reason}); start again to read the new one"


@dataclass(eq=False)
class EventTooLarge(ForgeError):
    """The NATS server takes no message of this size: trying again cannot help."""

    code = "event_too_large"
    subject: str
    size_bytes: int

    def __str__(self) -> str:
        return f"a message of {self.size_bytes} bytes on {self.subject} is larger than the NATS server's max_payload"


@dataclass(eq=False)
class DatabaseUnfit(ForgeError):
    """The Postgres database cannot give what our sessions need (another encoding, no schema, a shared session)."""

    code = "database_unfit"
    reason: str

    def __str__(self) -> str:
        return f"this Postgres database cannot be used: {self.reason}"


@dataclass(eq=False)
class QueueFull(LimitReached):
    """As many jobs wait as the settings allow."""

    code = "queue_full"
    open_jobs: int
    maximum: int

    def __str__(self) -> str:
        return f"{self.open_jobs} jobs are open and {self.maximum} are allowed: try again when some have finished"


@dataclass(eq=False)
class QuotaExceeded(LimitReached):
    """A tenant would use more than its quota. `wanted`: how much the request adds to what is `used`."""

    code = "quota_exceeded"
    quota: str
    tenant: str
    limit: float
    used: int
    wanted: int
    retry_after_seconds: int

    def __str__(self) -> str:
        seconds = self.retry_after_seconds
        limit, again = f"{self.limit:.12g}", f"try again in {seconds} s" if seconds < 120 else _minutes(seconds)
        whose = f"of tenant {self.tenant!r}"
        match self.quota:
            case "open_jobs":
                more = "" if self.wanted == 1 else f", {self.wanted} more are wanted"
                return (
                    f"{self.used} jobs {whose} are open{more} and {limit} are allowed: try again when some have ended"
                )
            case "pixel_steps_per_hour" if self.wanted > self.limit:
                return (
                    f"this job needs {self.wanted} pixel-steps and jobs {whose} may need {limit} an hour: ask for less"
                )
            case "pixel_steps_per_hour":
                return (
                    f"jobs {whose} of the last hour need {self.used} pixel-steps, this one {self.wanted} more, and "
                    f"{limit} are allowed: {again}"
                )
            case "stored_bytes":
                return (
                    f"images {whose} have {self.used} bytes and {limit} are allowed: there is room when "
                    "some are deleted"
                )
            case "streams":
                return f"{self.used} event streams {whose} are open and {limit} are allowed: close one"
            case "uploads":
                return f"{self.used} uploads {whose} are being received and {limit} are allowed: {again}"
        return f"there are more than {limit} requests a second {whose}: {again}"


def _minutes(seconds: int) -> str:
    return f"try again in {-(-seconds // 60)} min"
