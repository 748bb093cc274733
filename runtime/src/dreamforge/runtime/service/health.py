"""`/metrics`, `/healthz` and `/readyz` for services that are not web servers themselves."""

import asyncio
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from loguru import logger
from prometheus_client import make_wsgi_app

from dreamforge.contracts.errors import DependencyAway
from dreamforge.contracts.hosts import bare
from dreamforge.runtime import clock
from dreamforge.runtime.network import authority

# A readiness check that takes longer has failed.
CHECK_SECONDS = 2.0
# Checks write and read: "ready" is answered again for this long. A reason why not is asked for again at once.
FRESH_SECONDS = 1.0
Check = Callable[[], Awaitable[object]]


def not_ready(name: str, reason: str) -> Check:
    """A check that fails: what it should look at has not been started yet."""

    async def check() -> None:
        raise DependencyAway(dependency=name, reason=reason)

    return check


class ReadinessChecks:
    """The checks of a service. Any number may ask at the same time: each check runs once."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        """`checks` by name; it may change later."""
        self._checks = checks
        self._asking = asyncio.Lock()
        self._running: dict[str, asyncio.Task[str]] = {}
        self._ready: dict[str, str] = {}
        self._ready_until = 0.0

    async def results(self) -> dict[str, str]:
        """Run all checks concurrently: "ok" or the reason of the failure, by name."""
        async with self._asking:
            if clock.monotonic_seconds() < self._ready_until and self._ready.keys() == self._checks.keys():
                return self._ready
            names = tuple(self._checks)
            found = dict(zip(names, await asyncio.gather(*map(self._result, names)), strict=True))
            if all(result == "ok" for result in found.values()):
                self._ready, self._ready_until = found, clock.monotonic_seconds() + FRESH_SECONDS
            return found

    async def _result(self, name: str) -> str:
        """A check that does not end is not started again beside itself: each may hold a thread or a connection."""
        task = self._running.get(name) or asyncio.create_task(_checked(self._checks[name]), name=f"check of {name}")
        self._running[name] = task
        await asyncio.wait({task}, timeout=CHECK_SECONDS)
        if not task.done():
            return f"no answer in {CHECK_SECONDS:g} s"
        del self._running[name]
        return task.result()


async def _checked(check: Check) -> str:
    try:
        await check()
    except Exception as error:
        return str(error) or type(error).__name__
    return "ok"


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: ARG002 the base class's signature
        return None


class _IPv6Server(WSGIServer):
    address_family = socket.AF_INET6


class HealthServer:
    """A small HTTP server in a thread; checks run on the service's event loop, so it is not ready if that hangs."""

    def __init__(self, host: str, port: int, checks: dict[str, Check]) -> None:
        self._readiness = ReadinessChecks(checks)
        self._loop = asyncio.get_running_loop()
        self._metrics = make_wsgi_app()
        host = bare(host)
        kind = _IPv6Server if ":" in host else WSGIServer
        self._server: WSGIServer = make_server(host, port, self._app, server_class=kind, handler_class=_QuietHandler)
        self.address = authority(host, self._server.server_port)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.2,), name="health", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()
        logger.info("health and metrics on http://{}", self.address)

    def stop(self) -> None:
        """Stop answering and free the port."""
        self._server.shutdown()
        self._server.server_close()

    def _app(self, environ: dict[str, object], start_response: Callable[..., object]) -> Iterable[bytes]:
        """HEAD is a GET without its body, and with its length."""
        begun: list[tuple[str, list[tuple[str, str]]]] = []
        head = environ.get("REQUEST_METHOD") == "HEAD"
        asked = {**environ, "REQUEST_METHOD": "GET"} if head else environ
        body = b"".join(self._get(asked, lambda status, headers: begun.append((status, headers))))
        status, headers = begun[0]
        start_response(status, [*headers, ("Content-Length", str(len(body)))])
        return [] if head else [body]

    def _get(self, environ: dict[str, object], start_response: Callable[..., object]) -> Iterable[bytes]:
        match environ.get("PATH_INFO"):
            case "/metrics":
                body: Iterable[bytes] = self._metrics(environ, start_response)
                return body
            case "/healthz":
                return _answer(start_response, "200 OK", {"status": "ok"})
            case "/readyz":
                return self._ready(start_response)
            case path:
                return _answer(start_response, "404 Not Found", {"detail": f"no {path}: try /metrics /healthz /readyz"})

    def _ready(self, start_response: Callable[..., object]) -> Iterable[bytes]:
        future = asyncio.run_coroutine_threadsafe(self._readiness.results(), self._loop)
        try:
            result = future.result(timeout=CHECK_SECONDS * 2)
        except TimeoutError:
            result = {"loop": "the service's event loop does not answer"}
        ok = all(value == "ok" for value in result.values())
        return _answer(start_response, "200 OK" if ok else "503 Service Unavailable", _told(ok, result))


def _told(ready: bool, checks: dict[str, str]) -> dict[str, object]:
    return {"ready": ready, "checks": checks, "clock_skew_seconds": round(clock.skew_seconds(), 1)}


def _answer(start_response: Callable[..., object], status: str, body: dict[str, object]) -> Iterable[bytes]:
    start_response(status, [("Content-Type", "application/json")])
    return [json.dumps(body).encode()]
