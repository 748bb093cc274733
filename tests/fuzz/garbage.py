"""Messages that nobody of ours would ever send, made from one seed so that a failure can be had again."""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from dreamforge.contracts.errors import MalformedEvent
from dreamforge.contracts.events import Event, JobFailed, JobRequested, ModelRegistered, RunnerLost
from dreamforge.contracts.fleet import Device, Heartbeat
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
class Garbage:
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


def garbage(chance: random.Random, job_ids: Sequence[str]) -> Iterator[Garbage]:
    """For ever; about one in three goes to the subjects of `job_ids`, which are real jobs."""
    while True:
        subject = _subject(chance, job_ids)
        if subject.startswith("$KV."):
            yield Garbage(subject, {}, _heartbeat(chance))
            continue
        headers, data = chance.choice(KINDS)(chance)
        made = Garbage(subject, headers, data)
        if not (made.readable and made.subject.startswith("forge.jobs.") and _job(made.subject) in job_ids):
            yield made  # a forged fact of a real job is a fact: only permissions of the broker can forbid it


def _job(subject: str) -> str:
    return subject.split(".", 3)[2]


def _subject(chance: random.Random, job_ids: Sequence[str]) -> str:
    entity = chance.choice(job_ids) if job_ids and chance.random() < 0.33 else f"fuzz-{chance.randrange(50)}"
    match chance.randrange(11):
        case 0 | 1 | 2 | 3:
            return f"forge.jobs.{entity}.{chance.choice(('0', '1', '2', 'x', '-1', '99'))}.{chance.choice(TOKENS)}"
        case 4:
            return f"forge.jobs.{chance.choice((entity, 'é' * 20, 'x' * 2000))}"
        case 5:
            return f"forge.steps.{entity}"
        case 6:
            return f"forge.runners.{chance.choice(('local', entity))}.{chance.choice(('registered', 'lost', 'rogue'))}"
        case 7:
            return f"forge.models.{chance.choice(('synthetic', entity))}.{chance.choice(('registered', 'rogue'))}"
        case 8:
            return f"forge.parked.{chance.choice(('projector', 'projector.settled', entity))}"
        case 9:
            return chance.choice(("forge.deliver.local", f"forge.timers.due.{entity}", f"forge.timers.{entity}"))
    return f"$KV.runners.{chance.choice(('local', entity, 'a.b.local'))}"


def _random_bytes(chance: random.Random) -> tuple[dict[str, str], bytes]:
    return chance.choice(({}, _headers(chance))), chance.randbytes(chance.choice((0, 1, 50, 5_000)))


def _truncated(chance: random.Random) -> tuple[dict[str, str], bytes]:
    data = _event(chance).model_dump_json().encode()
    return _headers(chance), data[: chance.randrange(len(data))]


def _other_version(chance: random.Random) -> tuple[dict[str, str], bytes]:
    kind = chance.choice(sorted(BY_TYPE)).replace(".v1", chance.choice((".v9", ".v0", "", ".v1.v1")))
    return _headers(chance) | {"ce-type": kind}, _event(chance).model_dump_json().encode()


def _unknown_type(chance: random.Random) -> tuple[dict[str, str], bytes]:
    kind = chance.choice(("com.example.order.v1", "x" * 10_000, "dreamforge..v1", "é", "{}{0}"))
    return _headers(chance) | {"ce-type": kind}, b"{}"


def _foreign(chance: random.Random) -> tuple[dict[str, str], bytes]:
    sealed = seal(_event(chance), entity_id="elsewhere", event_id="e", source="/fuzz")
    return sealed.headers, sealed.data


def _huge_headers(chance: random.Random) -> tuple[dict[str, str], bytes]:
    if chance.random() < 0.5:
        size = LARGEST_SENT_BYTES if chance.random() < 0.1 else LARGEST_STORED_BYTES
        return _headers(chance) | {"x-huge": "h" * size}, b""
    return _headers(chance) | {f"x-{number}": "h" * 20 for number in range(1_800)}, b"{}"


def _empty(chance: random.Random) -> tuple[dict[str, str], bytes]:
    return chance.choice(({}, _headers(chance))), b""


def _nul(chance: random.Random) -> tuple[dict[str, str], bytes]:
    """A valid event but for the one character that Postgres cannot store."""
    request = JobRequested(at=NOW, tenant="t", request=REQUEST.model_copy(update={"prompt": "a\x00b"}))
    return _headers(chance) | {"ce-type": request.TYPE}, request.model_dump_json().encode()


def _deep(chance: random.Random) -> tuple[dict[str, str], bytes]:
    depth = chance.choice((100, 10_000, 100_000))
    opening, closing = chance.choice((("[", "]"), ('{"a":', "}")))
    return _headers(chance), (opening * depth + "1" + closing * depth).encode()


def _wrong_attributes(chance: random.Random) -> tuple[dict[str, str], bytes]:
    event = _event(chance)
    wrong = {
        "ce-specversion": "9",
        "ce-time": "yesterday",
        "ce-subject": "somebody else",
        "ce-id": "",
        "ce-source": "é",
    }
    return _headers(chance) | wrong | {"traceparent": "nonsense"}, event.model_dump_json().encode()


KINDS = (
    _random_bytes, _truncated, _other_version, _unknown_type, _foreign, _huge_headers, _empty, _nul, _deep,
    _wrong_attributes,
)  # fmt: skip


def _headers(chance: random.Random) -> dict[str, str]:
    return {"ce-specversion": "1.0", "ce-id": str(chance.random()), "ce-type": chance.choice(sorted(BY_TYPE))}


def _event(chance: random.Random) -> Event:
    preset = Preset(name="p", width_px=64, height_px=64, steps=1, guidance_scale=1)
    vram = VramProfile(resident_bytes=0, denoise_bytes_per_latent=0, decode_bytes_per_px=0)
    model = ModelDescriptor(model_id="elsewhere", family="f", digest="0" * 64, vram=vram, presets=(preset,))
    events = (
        JobRequested(at=NOW, tenant="t", request=REQUEST),
        JobFailed(at=NOW, attempt=1, reason="internal", message="m"),
        RunnerLost(at=NOW, instance_id="i", silent_seconds=1),
        ModelRegistered(at=NOW, descriptor=model),
    )
    return chance.choice(events)


def _heartbeat(chance: random.Random) -> bytes:
    """Bytes, or a sound heartbeat: of a runner that is not the key's."""
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
    return chance.choice((b"", whole, whole[:-5], chance.randbytes(50), json.dumps([1] * 50).encode(), b"\x00" * 9))
