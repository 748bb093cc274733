"""Simulates a lagging replica with a real server: it answers direct gets as if the log had ended earlier."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from dreamforge.runtime.log import bus
from dreamforge.runtime.log.fast_client import FastClient

GET = "$JS.API.DIRECT.GET.JOBS"
BEYOND = 2**62  # no message has this sequence


@dataclass(slots=True)
class Replica:
    """The replica of JOBS that answers direct gets. None: it is up to date."""

    ends_at: int | None = None

    def asked(self, subject: str, payload: bytes) -> tuple[str, bytes]:
        """A request, so that the server answers it as a replica would that ends there.

        The last message of one subject cannot be asked for up to a sequence, so a replica that is behind has none.
        """
        if self.ends_at is None or not subject.startswith(GET):
            return subject, payload
        if subject != GET:
            return f"{subject}.not-yet", payload
        request = json.loads(payload)
        if "multi_last" in request:
            request["up_to_seq"] = self.ends_at
        elif request.keys() == {"seq"} and request["seq"] > self.ends_at:
            request["seq"] = BEYOND
        return subject, json.dumps(request).encode()


@contextmanager
def lagging_replica(of: str = "") -> Iterator[Replica]:
    """For everything that connects while the block runs with a name that begins with `of`."""
    replica = Replica()

    class LaggingClient(FastClient):
        async def publish(
            self, subject: str, payload: bytes = b"", reply: str = "", headers: dict[str, str] | None = None
        ) -> None:
            if str(self.options["name"]).startswith(of):
                subject, payload = replica.asked(subject, payload)
            await super().publish(subject, payload, reply, headers)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bus, "FastClient", LaggingClient)
        yield replica
