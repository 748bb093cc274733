"""Messages that no service of ours sends, made from one seed so that a failure can be reproduced."""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from dreamforge.contracts.errors import MalformedEvent
from dreamforge.contracts.events import Event, JobFailed, JobRequested
from dreamforge.contracts.fleet import Device, Heartbeat
from dreamforge.contracts.installation_events import ModelRegistered, RunnerLost
from dreamforge.contracts.log.envelope import BY_TYPE, seal, unseal
from dreamforge.contracts.models.descriptor import ModelDescriptor, Preset, VramProfile
from dreamforge.contracts.request.render_request import RenderRequest

NOW = datetime(2026, 1, 1, tzinfo=UTC)
REQUEST = RenderRequest(
    model_id="synthetic", preset="p", prompt="p", width_px=64, height_px=64, steps=1, guidance_scale=1, seed=1
)
# A stream takes no more than 64 KiB of headers in a message, the server no more than 1 MiB of message.
LARGEST_STORED_BYTES, LARGEST_SENT_BYTES = 65_000, 1_000_000
TOKENS = ("requested", "assigned.gpu-runner", "started", "artifact.0", "attempt-failed", "succeeded", "failed",
          "cancel-requested", "cancelled", "rogue", "a.b.c.d.e.f", "assigned.local")  # fmt: skip


@dataclass(frozen=True, slots=True)
class RandomMessage:
    """One message."""

    subject: str
    headers: dict[str, str]
    data: bytes

    @property
    def readable(self) -> bool:
        """Whether it happens to be an event of ours on its own subject."""
        try:
            unseal(self.subject, self.headers, self.data, sequence=1)
        except MalformedEvent:
            return False
        return True


def random_messages(rng: random.Random, job_ids: Sequence[str]) -> Iterator[RandomMessage]:
    """Forever; about one in three goes to the subjects of `job_ids`, which are real jobs."""
    while True:
        subject = _subject(rng, job_ids)
        if subject.startswith("$KV."):
            yield RandomMessage(subject, {}, _heartbeat(rng))
            continue
        headers, data = rng.choice(KINDS)(rng)
        made = RandomMessage(subject, headers, data)
        if not (made.readable and made.subject.startswith("forge.jobs.") and _job(made.subject) in job_ids):
            yield made  # a valid event of a real job is accepted: only permissions of the broker can forbid it


def _job(subject: str) -> str:
    return subject.split(".", 3)[2]


def _subject(rng: random.Random, job_ids: Sequence[str]) -> str:
    entity = rng.choice(job_ids) if job_ids and rng.random() < 0.33 else f"fuzz-{rng.randrange(50)}"
    match rng.randrange(11):
        case 0 | 1 | 2 | 3:
            return f"forge.jobs.{entity}.{rng.choice(('0', '1', '2', 'x', '-1', '99'))}.{rng.choice(TOKENS)}"
        case 4:
            return f"forge.jobs.{rng.choice((entity, 'é' * 20, 'x' * 2000))}"
        case 5:
            return f"forge.steps.{entity}"
        case 6:
            return f"forge.runners.{rng.choice(('local', entity))}.{rng.choice(('registered', 'lost', 'rogue'))}"
        case 7:
            return f"forge.models.{rng.choice(('synthetic', entity))}.{rng.choice(('registered', 'rogue'))}"
        case 8:
            return f"forge.parked.{rng.choice(('projector', 'projector.settled', entity))}"
        case 9:
            return rng.choice(("forge.deliver.local", f"forge.timers.due.{entity}", f"forge.timers.{entity}"))
    return f"$KV.runners.{rng.choice(('local', entity, 'a.b.local'))}"


def _random_bytes(rng: random.Random) -> tuple[dict[str, str], bytes]:
    return rng.choice(({}, _headers(rng))), rng.randbytes(rng.choice((0, 1, 50, 5_000)))


def _truncated(rng: random.Random) -> tuple[dict[str, str], bytes]:
    data = _event(rng).model_dump_json().encode()
    return _headers(rng), data[: rng.randrange(len(data))]


def _other_version(rng: random.Random) -> tuple[dict[str, str], bytes]:
    kind = rng.choice(sorted(BY_TYPE)).replace(".v1", rng.choice((".v9", ".v0", "", ".v1.v1")))
    return _headers(rng) | {"ce-type": kind}, _event(rng).model_dump_json().encode()


def _unknown_type(rng: random.Random) -> tuple[dict[str, str], bytes]:
    kind = rng.choice(("com.example.order.v1", "x" * 10_000, "dreamforge..v1", "é", "{}{0}"))
    return _headers(rng) | {"ce-type": kind}, b"{}"


def _foreign(rng: random.Random) -> tuple[dict[str, str], bytes]:
    sealed = seal(_event(rng), entity_id="elsewhere", event_id="e", source="/fuzz")
    return sealed.headers, sealed.data


def _huge_headers(rng: random.Random) -> tuple[dict[str, str], bytes]:
    if rng.random() < 0.5:
        size = LARGEST_SENT_BYTES if rng.random() < 0.1 else LARGEST_STORED_BYTES
        return _headers(rng) | {"x-huge": "h" * size}, b""
    return _headers(rng) | {f"x-{number}": "h" * 20 for number in range(1_800)}, b"{}"


def _empty(rng: random.Random) -> tuple[dict[str, str], bytes]:
    return rng.choice(({}, _headers(rng))), b""


def _nul(rng: random.Random) -> tuple[dict[str, str], bytes]:
    """A valid event but for the one character that Postgres cannot store."""
    request = JobRequested(at=NOW, tenant="t", request=REQUEST.model_copy(update={"prompt": "a\x00b"}))
    return _headers(rng) | {"ce-type": request.TYPE}, request.model_dump_json().encode()


def _deep(rng: random.Random) -> tuple[dict[str, str], bytes]:
    depth = rng.choice((100, 10_000, 100_000))
    opening, closing = rng.choice((("[", "]"), ('{"a":', "}")))
    return _headers(rng), (opening * depth + "1" + closing * depth).encode()


def _wrong_attributes(rng: random.Random) -> tuple[dict[str, str], bytes]:
    event = _event(rng)
    wrong = {
        "ce-specversion": "9",
        "ce-time": "yesterday",
        "ce-subject": "another subject",
        "ce-id": "",
        "ce-source": "é",
    }
    return _headers(rng) | wrong | {"traceparent": "nonsense"}, event.model_dump_json().encode()


KINDS = (
    _random_bytes, _truncated, _other_version, _unknown_type, _foreign, _huge_headers, _empty, _nul, _deep,
    _wrong_attributes,
)  # fmt: skip


def _headers(rng: random.Random) -> dict[str, str]:
    return {"ce-specversion": "1.0", "ce-id": str(rng.random()), "ce-type": rng.choice(sorted(BY_TYPE))}


def _event(rng: random.Random) -> Event:
    preset = Preset(name="p", width_px=64, height_px=64, steps=1, guidance_scale=1)
    vram = VramProfile(resident_bytes=0, denoise_bytes_per_latent=0, decode_bytes_per_px=0)
    model = ModelDescriptor(model_id="elsewhere", family="f", digest="0" * 64, vram=vram, presets=(preset,))
    events = (
        JobRequested(at=NOW, tenant="t", request=REQUEST),
        JobFailed(at=NOW, attempt=1, reason="internal", message="m"),
        RunnerLost(at=NOW, instance_id="i", silent_seconds=1),
        ModelRegistered(at=NOW, descriptor=model),
    )
    return rng.choice(events)


def _heartbeat(rng: random.Random) -> bytes:
    """Bytes, or a valid heartbeat of another runner than the key's."""
    beat = Heartbeat(
        runner_id="elsewhere",
        instance_id="i",
        at=NOW,
        renderer="synthetic",
        device=Device(kind="cpu", name="c", total_bytes=2**40),
        budget_bytes=2**40,
        free_bytes=2**40,
        slots=64,
        model_ids=("synthetic",),
    )
    whole = beat.model_dump_json().encode()
    return rng.choice((b"", whole, whole[:-5], rng.randbytes(50), json.dumps([1] * 50).encode(), b"\x00" * 9))
