"""The names of streams, buckets and subjects on a server that several installations share.

Everything in this process uses the plain names (`JOBS`, `forge.jobs...`); only the connection adds the prefix of
FORGE_NATS_PREFIX to what it sends and takes it off what it receives. Pure.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dreamforge.contracts.log.streams import BUCKETS, STREAMS

ROOT = "forge"
BUCKET_ROOT = "$KV"
BUCKET_STREAM = "KV_"
# Subjects of the server's own that contain a stream's name, and after it perhaps a subject.
SERVERS_OWN = ("$JS.API.", "$JS.EVENT.")
API = "$JS.API."
# Where requests and answers of JetStream's API have names, and where subjects.
NAMES_IN = frozenset({"name", "stream_name", "stream"})
SUBJECTS_IN = frozenset(
    {
        "subject",
        "subjects",
        "filter_subject",
        "filter_subjects",
        "deliver_subject",
        "multi_last",
        "next_by_subj",
        "last_by_subj",
    }
)
# Headers of messages whose values are subjects.
SUBJECT_HEADERS = ("Nats-Subject", "Nats-Expected-Last-Subject-Sequence-Subject", "Nats-Schedule-Target")
PLAIN_STREAMS = frozenset((*(spec.name for spec in STREAMS), *(BUCKET_STREAM + spec.name for spec in BUCKETS)))


@dataclass(frozen=True, slots=True)
class Names:
    """The names with a prefix; without one, the plain names. `on_server` and `here` undo each other.

    >>> names = Names("acme")
    >>> names.stream("JOBS"), names.stream("KV_runners"), names.on_server("forge.jobs.J.>")
    ('acme_JOBS', 'KV_acme_runners', 'acme_forge.jobs.J.>')
    >>> names.on_server("$JS.API.DIRECT.GET.JOBS.forge.jobs.J.0.requested")
    '$JS.API.DIRECT.GET.acme_JOBS.acme_forge.jobs.J.0.requested'
    >>> names.here(names.on_server("$KV.runners.gpu-1"))
    '$KV.runners.gpu-1'
    """

    prefix: str
    _streams: dict[str, str] = field(init=False, repr=False)
    _plain: dict[str, str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        streams = {name: self._prefixed(name) for name in PLAIN_STREAMS}
        object.__setattr__(self, "_streams", streams)
        object.__setattr__(self, "_plain", {there: name for name, there in streams.items()})

    def _prefixed(self, stream: str) -> str:
        if not self.prefix:
            return stream
        if stream.startswith(BUCKET_STREAM):
            return f"{BUCKET_STREAM}{self.prefix}_{stream.removeprefix(BUCKET_STREAM)}"
        return f"{self.prefix}_{stream}"

    def stream(self, plain: str) -> str:
        """A stream's name on the server."""
        return self._streams.get(plain, plain)

    def plain_stream(self, name: str) -> str:
        """A stream's plain name; that of another application's stream is as it is."""
        return self._plain.get(name, name)

    def on_server(self, subject: str) -> str:
        """A subject as the server knows it."""
        if not self.prefix:
            return subject
        return self._mapped(subject, self._streams, ROOT, f"{self.prefix}_{ROOT}", self._add)

    def here(self, subject: str) -> str:
        """A subject of the server as this process knows it."""
        if not self.prefix:
            return subject
        return self._mapped(subject, self._plain, f"{self.prefix}_{ROOT}", ROOT, self._take_off)

    def headers_on_server(self, headers: dict[str, str]) -> dict[str, str]:
        """Headers of a message that is sent."""
        return headers | {name: self.on_server(headers[name]) for name in SUBJECT_HEADERS if name in headers}

    def headers_here(self, headers: dict[str, str]) -> dict[str, str]:
        """Headers of a message that arrived."""
        return headers | {name: self.here(headers[name]) for name in SUBJECT_HEADERS if name in headers}

    def request_on_server(self, document: Any) -> Any:  # Any: JSON
        """The body of an API request."""
        return _walk(document, self.stream, self.on_server)

    def answer_here(self, document: dict[str, Any]) -> dict[str, Any]:  # Any: JSON
        """The body of an API answer."""
        if not self.prefix:
            return document
        found: dict[str, Any] = _walk(document, self.plain_stream, self.here)
        return found

    def _add(self, bucket: str) -> str:
        return f"{self.prefix}_{bucket}"

    def _take_off(self, bucket: str) -> str:
        return bucket.removeprefix(f"{self.prefix}_")

    @staticmethod
    def _mapped(subject: str, streams: dict[str, str], root: str, other_root: str, bucket: Callable[[str], str]) -> str:
        """The subject itself, or in a subject of the server's own the stream and the subject after it."""
        parts = subject.split(".")
        first = 0
        if subject.startswith(SERVERS_OWN):
            stream = next((number for number, part in enumerate(parts) if part in streams), len(parts))
            if stream == len(parts):
                return subject
            parts[stream] = streams[parts[stream]]
            first = next(
                (number for number in range(stream + 1, len(parts)) if parts[number] in (root, BUCKET_ROOT)), len(parts)
            )
        if parts[first : first + 1] == [root]:
            parts[first] = other_root
        elif parts[first : first + 1] == [BUCKET_ROOT] and len(parts) > first + 1:
            parts[first + 1] = bucket(parts[first + 1])
        return ".".join(parts)


PLAIN_NAMES = Names("")


def _walk(value: Any, name: Callable[[str], str], subject: Callable[[str], str], key: str = "") -> Any:  # Any: JSON
    if isinstance(value, dict):
        return {each: _walk(inner, name, subject, each) for each, inner in value.items()}
    if isinstance(value, list):
        return [_walk(inner, name, subject, key) for inner in value]
    if isinstance(value, str):
        return name(value) if key in NAMES_IN else subject(value) if key in SUBJECTS_IN else value
    return value
