"""The AsyncAPI 3.0 document of every channel, computed from the event classes, so it cannot differ from them.

`python -m dreamforge.gateway.documents.asyncapi docs/asyncapi` writes it (JSON and a page for people); with `--check`
it fails when what is there differs.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

from dreamforge.contracts import events as e
from dreamforge.contracts import installation_events as i
from dreamforge.contracts import webhook_events as w
from dreamforge.contracts.fleet import LEASE_SECONDS, Heartbeat, NextModel
from dreamforge.contracts.log.streams import RUNNERS_BUCKET, stream_of
from dreamforge.contracts.log.subjects import address_of, has_detail, key_of, next_model_of
from dreamforge.contracts.models.descriptor import Value
from dreamforge.gateway.documents.asyncapi_page import page

Json = dict[str, Any]  # Any: a JSON document

PARAMETERS = {
    "job_id": "UUIDv7, or UUIDv5 of (tenant, Idempotency-Key) or of its batch and place",
    "attempt": "0 before the first assignment, then 1, 2, ...",
    "runner_id": "the runner's own name",
    "index": "which picture of the job, from 0",
    "model_id": "the model's id",
    "number": "counts the events of this kind, from 1",
    "warning": "the code, with `-` and the picture's index where it is about one of them",
    "key_id": "the public part of the API key",
    "tenant": "the name of the tenant",
    "scope": "fleet, or tenant- and the tenant's name",
    "webhook_id": "the webhook's id",
    "service": "the service that could not read the message",
}
_ALL = ("scheduler", "projector", "gateway")
_SCHEDULER, _RUNNER, _GATEWAY, _PROJECTOR, _CLI = "scheduler", "gpu-runner", "gateway", "projector", "cli"
Services = tuple[str, ...]
# event -> (services that append it, services that read it)
USERS: dict[type[e.Event], tuple[Services, Services]] = {
    e.JobRequested: ((_GATEWAY,), _ALL),
    e.JobAssigned: ((_SCHEDULER,), (*_ALL, _RUNNER)),
    e.JobStarted: ((_RUNNER,), _ALL),
    e.ArtifactStored: ((_RUNNER,), (_PROJECTOR, _GATEWAY)),
    e.JobWarned: ((_RUNNER,), (_PROJECTOR, _GATEWAY)),
    e.AttemptFailed: ((_RUNNER, _SCHEDULER), _ALL),
    e.JobSucceeded: ((_RUNNER,), _ALL),
    e.JobFailed: ((_RUNNER, _SCHEDULER), _ALL),
    e.CancelRequested: ((_GATEWAY,), (*_ALL, _RUNNER)),
    e.JobCancelled: ((_GATEWAY, _RUNNER, _SCHEDULER), _ALL),
    e.ErasureRequested: ((_GATEWAY, _PROJECTOR), _ALL),
    e.JobErased: ((_PROJECTOR,), _ALL),
    e.JobArchived: ((_PROJECTOR,), (_PROJECTOR, _GATEWAY, _CLI)),
    e.StepProgressed: ((_RUNNER,), (_PROJECTOR, _GATEWAY)),
    i.RunnerRegistered: ((_RUNNER,), (_PROJECTOR,)),
    i.RunnerStopped: ((_RUNNER,), (_PROJECTOR,)),
    i.RunnerLost: ((_SCHEDULER,), (_PROJECTOR,)),
    i.ModelRegistered: ((_RUNNER, _CLI), (*_ALL, _RUNNER)),
    i.ModelVerified: ((_CLI,), (_PROJECTOR,)),
    i.ModelRemoved: ((_CLI,), (*_ALL, _RUNNER)),
    i.QueueHeld: ((_GATEWAY,), (_SCHEDULER, _GATEWAY)),
    i.QueueReleased: ((_GATEWAY,), (_SCHEDULER, _GATEWAY)),
    i.KeyCreated: ((_CLI,), (_GATEWAY, _CLI)),
    i.KeyRevoked: ((_CLI,), (_GATEWAY, _CLI)),
    i.TenantConfigured: ((_GATEWAY,), (_GATEWAY, _SCHEDULER)),
    i.SignedIn: ((_GATEWAY,), (_GATEWAY, _CLI)),
    i.CredentialRefused: ((_GATEWAY,), (_GATEWAY, _CLI)),
    i.AddressFirstUsed: ((_GATEWAY,), (_GATEWAY, _CLI)),
    i.TenantRead: ((_GATEWAY,), (_GATEWAY, _CLI)),
    i.MessageParked: ((_PROJECTOR,), ("cli",)),
    i.ParkedSettled: ((_CLI,), (_PROJECTOR,)),
    **dict.fromkeys(w.WEBHOOK_EVENTS, ((_GATEWAY,), (_GATEWAY,))),
}
# A new event of a job is one that its owner causes, through the gateway, unless it is named above.
for _event in e.JOB_EVENTS:
    USERS.setdefault(_event, ((_GATEWAY,), _ALL))
_IDS: dict[type[e.Event], str] = {
    e.JobEvent: "{job_id}",
    i.RunnerEvent: "{runner_id}",
    i.ModelEvent: "{model_id}",
    i.QueueEvent: "{scope}",
    i.KeyEvent: "{key_id}",
    i.TenantEvent: "{tenant}",
    i.AuditEvent: "{tenant}",
    w.WebhookEvent: "{webhook_id}",
    w.DeliveryEvent: "{webhook_id}",
    i.MessageParked: "{service}",
    i.ParkedSettled: "{service}",
}
_DETAILS = {
    e.JobAssigned: "{runner_id}",
    e.ArtifactStored: "{index}",
    e.ArtifactErased: "{index}",
    e.JobWarned: "{warning}",
}
HEARTBEATS = key_of(RUNNERS_BUCKET, "{runner_id}")


def address_of_kind(kind: type[e.Event], *, of_runner: bool = False) -> str:
    """The subjects of a kind of event, with a placeholder for each part that varies."""
    entity_id = next(name for base, name in _IDS.items() if issubclass(kind, base))
    repeats = issubclass(kind, e.JobEvent) and has_detail(kind)
    detail = _DETAILS.get(kind, "{number}") if repeats else None
    return address_of(kind, entity_id, "{attempt}", detail, "{runner_id}" if of_runner else None)


def channels_of_kind(kind: type[e.Event], senders: Services) -> list[tuple[str, str, Services]]:
    """Name, address and senders of each channel: what a runner writes of an attempt is apart from what services do."""
    if not issubclass(kind, e.AttemptEvent):
        return [(kind.__name__, address_of_kind(kind), senders)]
    services = tuple(service for service in senders if service != _RUNNER)
    of_runner = address_of_kind(kind, of_runner=True)
    if not services:
        return [(kind.__name__, of_runner, (_RUNNER,))]
    return [(kind.__name__, address_of_kind(kind), services), (f"{kind.__name__}ByRunner", of_runner, (_RUNNER,))]


def document() -> Json:
    """The whole document. Pure and deterministic."""
    channels: Json = {}
    operations: Json = {}
    messages: Json = {}
    schemas: Json = {}
    for kind, (senders, receivers) in USERS.items():
        message = kind.__name__
        messages[message] = _message(kind, schemas)
        for name, address, own_senders in channels_of_kind(kind, senders):
            stream = stream_of(address)
            channels[name] = _channel(address, f"{_summary(kind)} Stream {stream.name}: {stream.title}.", message)
            _operations(operations, name, message, own_senders, receivers)
    messages["Heartbeat"] = {
        "name": "Heartbeat",
        "summary": _summary(Heartbeat),
        "contentType": "application/json",
        "headers": {
            "type": "object",
            "properties": {"Nats-TTL": {"const": f"{LEASE_SECONDS}s", "description": "the lease"}},
        },
        "payload": _schema(Heartbeat, schemas),
    }
    channels["Heartbeat"] = _channel(
        HEARTBEATS, "A KV bucket in memory: the latest heartbeat of each runner.", "Heartbeat"
    )
    _operations(operations, "Heartbeat", "Heartbeat", (_RUNNER,), (_SCHEDULER, _GATEWAY))
    messages["NextModel"] = {
        "name": "NextModel",
        "summary": _summary(NextModel),
        "contentType": "application/json",
        "payload": _schema(NextModel, schemas),
    }
    channels["NextModel"] = _channel(next_model_of("{runner_id}"), "A hint, in no stream.", "NextModel")
    _operations(operations, "NextModel", "NextModel", (_SCHEDULER,), (_RUNNER,))
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Dream Forge events",
            "version": "1.0.0",
            "description": "Every fact is an event in a durable log; everything else is a fold of that log. "
            "Events are CloudEvents 1.0 in binary mode: attributes in ce-* headers, the payload plain JSON.",
        },
        "defaultContentType": "application/json",
        "servers": {
            "nats": {
                "host": "127.0.0.1:4222",
                "protocol": "nats",
                "description": "NATS JetStream 2.14 or newer (FORGE_NATS_URL)",
            }
        },
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": messages,
            "schemas": schemas,
            "messageTraits": {"cloudEvent": {"headers": _cloud_event_headers()}},
        },
    }


def _channel(address: str, description: str, message: str) -> Json:
    names = re.findall(r"\{(\w+)\}", address)
    return {
        "address": address,
        "description": description,
        "messages": {message: {"$ref": f"#/components/messages/{message}"}},
        "parameters": {name: {"description": PARAMETERS[name]} for name in names},
    }


def _operations(operations: Json, name: str, message: str, senders: Services, receivers: Services) -> None:
    for action, services in (("send", senders), ("receive", receivers)):
        for service in services:
            operations[f"{service}.{action}.{name}"] = {
                "action": action,
                "channel": {"$ref": f"#/channels/{name}"},
                "messages": [{"$ref": f"#/channels/{name}/messages/{message}"}],
                "tags": [{"name": service}],
            }


def _message(kind: type[e.Event], schemas: Json) -> Json:
    return {
        "name": kind.TYPE,
        "title": kind.__name__,
        "summary": _summary(kind),
        "contentType": "application/json",
        "traits": [{"$ref": "#/components/messageTraits/cloudEvent"}],
        "payload": _schema(kind, schemas),
    }


def _schema(kind: type[Value], schemas: Json) -> Json:
    """Move a model's schema and its parts into the shared components, and refer to it."""
    schema = kind.model_json_schema(mode="serialization", ref_template="#/components/schemas/{model}")
    for name, part in schema.pop("$defs", {}).items():
        if schemas.setdefault(name, part) != part:
            raise ValueError(f"two different schemas are called {name}")
    schemas[kind.__name__] = schema
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


def _summary(kind: type[Value]) -> str:
    return (kind.__doc__ or "").strip().split("\n\n")[0].replace("\n", " ").replace("    ", "")


def _cloud_event_headers() -> Json:
    text = {"type": "string"}
    return {
        "type": "object",
        "required": ["ce-specversion", "ce-id", "ce-type", "ce-source", "ce-time", "ce-subject"],
        "properties": {
            "ce-specversion": {"const": "1.0"},
            "ce-id": text | {"description": "unique for each append; a UUIDv7"},
            "ce-type": text | {"description": "the event's versioned type"},
            "ce-source": text | {"description": "/dreamforge/<service>/<instance>"},
            "ce-time": text | {"format": "date-time"},
            "ce-subject": text | {"description": "the job, runner or model it is about"},
            "content-type": {"const": "application/json"},
            "traceparent": text | {"description": "W3C trace context of the request that led to it, if any"},
        },
    }


def files() -> dict[str, str]:
    """The files of `docs/asyncapi`, by name."""
    found = document()
    return {"asyncapi.json": json.dumps(found, indent=2, ensure_ascii=False) + "\n", "index.html": page(found)}


def main(arguments: list[str]) -> int:
    """Write or check the documents. Gives the exit status."""
    folder = Path(next((word for word in arguments if not word.startswith("-")), "docs/asyncapi"))
    if "--check" in arguments:
        stale = [
            name
            for name, text in files().items()
            if not (folder / name).exists() or (folder / name).read_text() != text
        ]
        if stale:
            print(f"{folder}: {', '.join(stale)} differ from the events; run `task asyncapi`", file=sys.stderr)  # noqa: T201
        return 1 if stale else 0
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files().items():
        (folder / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
