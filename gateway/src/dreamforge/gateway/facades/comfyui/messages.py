"""The events of a job as the messages of ComfyUI's websocket. Pure."""

import base64
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from dreamforge.gateway.events.watch import JobEventData
from dreamforge.gateway.facades.comfyui.graph import Graph, Node, read_graph
from dreamforge.gateway.facades.comfyui.history import failure, interruption, milliseconds
from dreamforge.gateway.facades.comfyui.names import outputs_of
from dreamforge.gateway.facades.comfyui.sampling_nodes import SAMPLERS

Message = dict[str, Any] | bytes  # Any: JSON
# protocol.py of ComfyUI 0.3: PREVIEW_IMAGE; server.py: a JPEG.
_PREVIEW, _JPEG = 1, 1


def message(kind: str, **data: object) -> Message:
    """A message of text."""
    return {"type": kind, "data": data}


def status(queue_remaining: int, **more: object) -> Message:
    """How much is in the queue."""
    return message("status", status={"exec_info": {"queue_remaining": queue_remaining}}, **more)


def preview(data_uri: str) -> bytes:
    """A preview as a message of bytes, from the data URI of a JPEG."""
    return struct.pack(">II", _PREVIEW, _JPEG) + base64.b64decode(data_uri.partition(",")[2])


@dataclass(slots=True)
class JobMessages:
    """Folds the events of one job, from its first on."""

    job_id: str
    workflow: Mapping[str, Any]  # Any: JSON
    graph: Graph
    prompt_id: str
    executing: str | None = None
    started: bool = False
    images: dict[int, tuple[str, str]] = field(default_factory=dict)

    @classmethod
    def of(cls, requested: JobEventData) -> "JobMessages":
        """Of a job that was requested as a workflow."""
        workflow = requested["workflow"]
        graph = read_graph(workflow["graph"], workflow["outputs"])
        return cls(requested["job_id"], workflow, graph, workflow.get("prompt_id") or requested["job_id"])

    def take(self, event: JobEventData) -> list[Message]:
        """What an event says to the client."""
        match event["event"]:
            case "started":
                return list(self._start(event))
            case "step":
                return list(self._step(event))
            case "artifact":
                artifact_id = f"{self.job_id}-{event['attempt']}-{event['index']}"
                self.images[event["index"]] = (artifact_id, event["content_type"])
                return []
            case "succeeded":
                return list(self._succeed(event))
            case "failed":
                said = failure(self.workflow, event["reason"], event["message"])
                return [self._say("execution_error", event, **said), self._execute(None)]
            case "cancelled":
                where = interruption(self.workflow)
                return [self._say("execution_interrupted", event, **where), self._execute(None)]
            case _:
                return []

    def _start(self, event: JobEventData) -> Iterator[Message]:
        if not self.started:
            self.started = True
            yield self._say("execution_start", event)
            yield self._say("execution_cached", event, nodes=[])
        yield from self._until(self._samplers()[0].node_id)

    def _until(self, last: str) -> Iterator[Message]:
        """The nodes before one are done, and it is executed."""
        order = list(self.graph.nodes)
        done = order.index(self.executing) + 1 if self.executing in order else 0
        for node_id in order[done : order.index(last) + 1]:
            yield self._execute(node_id)

    def _samplers(self) -> list[Node]:
        return [node for node in self.graph.nodes.values() if node.class_type in SAMPLERS]

    def _step(self, event: JobEventData) -> Iterator[Message]:
        if event.get("loading"):
            return
        node_id, value, maximum = self._place(event["step"], event["steps"])
        if self.executing != node_id:
            yield self._execute(node_id)
        yield message("progress", value=value, max=maximum, prompt_id=self.prompt_id, node=node_id)
        if event.get("preview"):
            yield preview(event["preview"])

    def _place(self, step: int, steps: int) -> tuple[str, int, int]:
        """The sampler that makes a step, and which of its steps it is: those of the first one come first."""
        first, *more = self._samplers()
        own = first.inputs["steps"] - first.inputs.get("start_at_step", 0)
        if not more or steps <= own:
            return first.node_id, step, steps
        if step <= own:
            return first.node_id, step, own
        return more[0].node_id, step - own, steps - own

    def _succeed(self, event: JobEventData) -> Iterator[Message]:
        shown = outputs_of(self.workflow, [self.images[index] for index in sorted(self.images)])
        order = list(self.graph.nodes)
        done = order.index(self.executing) + 1 if self.executing in order else 0
        for node_id in order[done:]:
            yield self._execute(node_id)
        for node_id, output in shown.items():
            yield message("executed", node=node_id, display_node=node_id, output=output, prompt_id=self.prompt_id)
        yield self._execute(None)
        yield self._say("execution_success", event)

    def _execute(self, node_id: str | None) -> Message:
        self.executing = node_id
        return message("executing", node=node_id, display_node=node_id, prompt_id=self.prompt_id)

    def _say(self, kind: str, event: JobEventData, **more: object) -> Message:
        at = milliseconds(datetime.fromisoformat(event["at"]))
        return message(kind, prompt_id=self.prompt_id, timestamp=at, **more)
