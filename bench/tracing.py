"""What tracing costs: requests that append one event each, with tracing off, of one request in a hundred, and of all.

Usage: python -m bench.tracing [--requests 2000] [--rounds 5]

Each round does all three, in turn. Processor time of the process that makes the spans, its exporting thread included;
they are sent to a collector in another process. A request is the gateway's middleware and an append to a real NATS,
so that the difference is that of the spans: two a request. Also what one `span` costs where nothing is traced.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from bench.eventstore import REQUEST
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dreamforge.contracts.events import JobRequested
from dreamforge.gateway.http.middleware import RequestMiddleware, context_of
from dreamforge.runtime import clock, ids
from dreamforge.runtime.embedded import NatsServer
from dreamforge.runtime.log import bus as bus_module
from dreamforge.runtime.log.event_store import EventStore
from dreamforge.runtime.log.streams import ensure_streams
from dreamforge.runtime.service import tracing
from dreamforge.runtime.service.telemetry import configure_logging

SHARES = {"off": 0.0, "1 %": 0.01, "all": 1.0}
WRITERS = 16
CALLS = 200_000
# Answers whatever it is sent, and says its port first.
SINK = """
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_): pass
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


def appending(store: EventStore) -> ASGIApp:
    """A route that appends one event, behind the gateway's middleware."""

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        event = JobRequested(at=clock.now(), tenant="t", request=REQUEST)
        traceparent = context_of(Request(scope)).traceparent
        await store.append(ids.new_id(), [event], expected=0, traceparent=traceparent)
        await Response(status_code=202)(scope, receive, send)

    return RequestMiddleware(route)


async def once(app: ASGIApp) -> None:
    """One request, without a server in between."""
    scope = {"type": "http", "method": "POST", "path": "/v1/jobs", "scheme": "http", "headers": [], "query_string": b""}

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(message: Message) -> None:
        assert message.get("status", 202) == 202

    await app(scope, receive, send)


async def cpu_seconds(app: ASGIApp, requests: int) -> float:
    """Processor time of one request, on average."""

    async def writer() -> None:
        for _ in range(requests // WRITERS):
            await once(app)

    began = clock.process_seconds()
    await asyncio.gather(*(writer() for _ in range(WRITERS)))
    return (clock.process_seconds() - began) / (requests // WRITERS * WRITERS)


def span_seconds() -> float:
    """Processor time of a span where nothing is traced."""
    began = clock.process_seconds()
    for _ in range(CALLS):
        with tracing.span("x"):
            pass
    return (clock.process_seconds() - began) / CALLS


async def measure(requests: int, rounds: int) -> dict[str, list[float]]:
    """Processor time of a request in each round, by how much was traced."""
    found: dict[str, list[float]] = {name: [] for name in SHARES}
    with tempfile.TemporaryDirectory() as folder:
        async with NatsServer(Path(folder)) as server:
            bus = await bus_module.connect(server.url, "bench")
            await ensure_streams(bus)
            app = appending(EventStore(bus, "/dreamforge/bench"))
            await cpu_seconds(app, requests // 4)  # the first ones are slower
            for _ in range(rounds):
                for name, share in SHARES.items():
                    with tracing.exporting("bench", share):
                        found[name].append(await cpu_seconds(app, requests))
            await bus.close()
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    configure_logging("bench", level="WARNING")
    sink = subprocess.Popen([sys.executable, "-c", SINK], stdout=subprocess.PIPE, text=True)
    try:
        assert sink.stdout is not None
        os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{int(sink.stdout.readline())}"
        print(f"a span where nothing is traced: {span_seconds() * 1e9:.0f} ns")
        found = asyncio.run(measure(arguments.requests, arguments.rounds))
    finally:
        sink.kill()
        sink.wait()
    off = median(found["off"])
    for name, seconds in found.items():
        one = median(seconds)
        spread = f"{min(seconds) * 1e6:.0f} to {max(seconds) * 1e6:.0f}"
        print(f"{name:>4}: {one * 1e6:6.0f} us a request ({spread}), {(one / off - 1) * 100:+.1f} %")


if __name__ == "__main__":
    main()
