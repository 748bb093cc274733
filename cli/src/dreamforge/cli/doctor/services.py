"""The gateway and the other services: whether they answer, what they say is missing, and whether they keep ending."""

from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from email.utils import parsedate_to_datetime

import httpx

from dreamforge.cli.doctor.findings import Finding, fault, ok, warning
from dreamforge.cli.settings import CliSettings, gateway_url
from dreamforge.cli.stack.ready import readiness_of
from dreamforge.cli.stack_record import StackRecord
from dreamforge.contracts.hosts import bare
from dreamforge.runtime import clock
from dreamforge.runtime.embedded.ports import is_taken
from dreamforge.runtime.network import reachable

ANSWER_SECONDS = 5.0
# The Date of an answer has whole seconds.
CLOCKS_AGREE_SECONDS = 2.0
RESTARTS_WORTH_SAYING = 3


def check_port(settings: CliSettings) -> Finding:
    """Before a start: whether the gateway can have its port."""
    host, port = bare(reachable(settings.gateway_host)), settings.gateway_port
    if port and is_taken(port, bare(settings.gateway_host)):
        remedy = "choose another in FORGE_GATEWAY_PORT, or stop what listens there (`ss -ltnp`)"
        return fault("gateway", f"port {port} of {host} is in use by another process", remedy)
    return ok("gateway", f"port {port} is free" if port else "takes a free port")


async def check_gateway(settings: CliSettings) -> AsyncIterator[Finding]:
    """Ask the gateway as any client would. Errors: none; what it answers is a finding."""
    url = gateway_url(settings)
    began = clock.monotonic_seconds()
    try:
        async with httpx.AsyncClient(timeout=ANSWER_SECONDS) as client:
            answer = await client.get(f"{url}/readyz")
    except httpx.HTTPError as error:
        reason = str(error) or type(error).__name__
        yield fault("gateway", f"{url} does not answer ({reason})", "start it, or name another in FORGE_GATEWAY_URL")
        return
    took = clock.monotonic_seconds() - began
    yield judge_answer(url, answer.status_code, answer.headers.get("content-type", ""), took)
    if date := _parsed(answer.headers.get("date", "")):
        yield judge_date((clock.machine_now() - date).total_seconds(), took)


def judge_answer(url: str, status: int, content_type: str, took_seconds: float) -> Finding:
    """Whether it is a gateway of ours that is ready."""
    if status == httpx.codes.OK and "json" in content_type:
        return ok("gateway", f"{url} is ready, and answered in {took_seconds * 1000:.0f} ms")
    if status == httpx.codes.SERVICE_UNAVAILABLE:
        return fault("gateway", f"{url} is not ready", "see what the services say below, or `dreamforge logs gateway`")
    if status == httpx.codes.MISDIRECTED_REQUEST:
        return fault("gateway", f"{url} does not know that host name", "name it in FORGE_GATEWAY_HOSTS of the gateway")
    remedy = "see whether FORGE_GATEWAY_URL is right, and whether a proxy before it passes every path on"
    return fault("gateway", f"{url} answered {status} ({content_type or 'no type'}), as no gateway does", remedy)


def judge_date(ahead_seconds: float, took_seconds: float) -> Finding:
    """Whether this machine's clock and the gateway's agree, by an answer that took so long.

    >>> judge_date(3.0, 2.5).severity, judge_date(-3.0, 2.5).severity
    (<Severity.OK: 'ok'>, <Severity.WARNING: 'warning'>)
    """
    if -CLOCKS_AGREE_SECONDS < ahead_seconds < CLOCKS_AGREE_SECONDS + took_seconds:
        return ok("clock", "agrees with the gateway's")
    direction = "ahead of" if ahead_seconds > 0 else "behind"
    fact = f"this machine's clock is {abs(ahead_seconds):.0f} s {direction} the gateway's"
    return warning("clock", fact, "set both by NTP: signed webhooks and certificates are refused otherwise")


def _parsed(date: str) -> datetime | None:
    try:
        return parsedate_to_datetime(date)
    except ValueError:
        return None


async def check_services(record: StackRecord, servers: Iterable[str]) -> AsyncIterator[Finding]:
    """Of the stack that runs in this folder: what each of its services says of itself."""
    asked = {each.name: each.address for each in record.processes if each.name not in set(servers)}
    restarts = {each.name: each.restarts for each in record.processes}
    for name, answer in (await readiness_of(asked)).items():
        reasons = [f"{what}: {reason}" for what, reason in answer.get("checks", {}).items() if reason != "ok"]
        yield judge_service(name, reasons, restarts[name])


def judge_service(name: str, reasons: list[str], restarts: int) -> Finding:
    """Whether a service is ready, and stays so.

    >>> judge_service("projector", ["postgres: away"], 0).fact
    'projector is not ready: postgres: away'
    """
    logs = f"see `dreamforge logs {name}`"
    if reasons:
        return fault("services", f"{name} is not ready: {'; '.join(reasons)}", logs)
    if restarts >= RESTARTS_WORTH_SAYING:
        return warning("services", f"{name} is ready, and was restarted {restarts} times", logs)
    return ok("services", f"{name} is ready")
