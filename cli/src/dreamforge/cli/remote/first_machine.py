"""Finds the machine of a token and proves that it is that one, before anything secret is sent to it."""

import asyncio
import ssl
from dataclasses import dataclass

import httpx
from pydantic import ValidationError

from dreamforge.cli.failure import CommandError
from dreamforge.cli.remote.errors import not_reachable, refused, token_expired, wrong_fingerprint
from dreamforge.cli.remote.membership import FirstMachine
from dreamforge.runtime import clock
from dreamforge.runtime.remote.replies import ACCESS, AUTHORITY, RemoteAccess
from dreamforge.runtime.remote.signed_client import SignsRequests, said
from dreamforge.runtime.remote.token import JoinToken
from dreamforge.runtime.tls.certificates import fingerprint_of

TIMEOUT = httpx.Timeout(10.0, connect=5.0)
#: A certificate has some hundred bytes.
AUTHORITY_BYTES_MAX = 16_384


@dataclass(frozen=True, slots=True)
class Found:
    """An address that answered, with the authority that it shows; not believed yet."""

    address: str
    authority_pem: str


async def join(token: JoinToken) -> tuple[FirstMachine, str]:
    """The first machine as this runner reaches it, and its authority.

    Errors: CommandError where the token has expired, no address answers, another machine does, or it refuses.
    """
    if clock.now() >= token.expires_at:
        raise token_expired(token)
    found = await _find(token)
    host, _, port = found.address.rpartition(":")
    context = ssl.create_default_context(cadata=found.authority_pem)
    async with first_machine(f"https://{found.address}", context, token.seed, token.runner_id) as client:
        access = await ask_access(client, token.runner_id)
    return FirstMachine(host=host.strip("[]"), port=int(port), access=access), found.authority_pem


def first_machine(url: str, context: ssl.SSLContext, seed: str, runner_id: str) -> httpx.AsyncClient:
    """A client that trusts its authority only, and signs as the runner."""
    auth = SignsRequests(seed, runner_id)
    return httpx.AsyncClient(base_url=url, verify=context, auth=auth, timeout=TIMEOUT, trust_env=False)


async def ask_access(client: httpx.AsyncClient, runner_id: str) -> RemoteAccess:
    """How to reach NATS. Errors: CommandError where it does not answer, or refuses."""
    try:
        response = await client.get(ACCESS)
        if response.status_code == httpx.codes.UNAUTHORIZED:
            raise refused(runner_id, said(response).removeprefix("401: "))
        response.raise_for_status()
        return RemoteAccess.model_validate_json(response.content)
    except (httpx.HTTPError, ValidationError) as error:
        raise not_reachable({str(client.base_url.netloc.decode()): _reason(error)}) from error


async def _find(token: JoinToken) -> Found:
    """The address that shows the authority of the token; all are asked at the same time.

    Errors: CommandError with what each address said.
    """
    answers = await asyncio.gather(*map(_authority_at, token.addresses), return_exceptions=True)
    others: list[CommandError] = []
    reasons: dict[str, str] = {}
    for address, answer in zip(token.addresses, answers, strict=True):
        if isinstance(answer, BaseException):
            if not isinstance(answer, (httpx.HTTPError, ValueError)):
                raise answer
            reasons[address] = _reason(answer)
        elif (fingerprint := fingerprint_of(answer)) == token.fingerprint:
            return Found(address, answer)
        else:
            others.append(wrong_fingerprint(token, address, fingerprint))
    raise others[0] if others else not_reachable(reasons)


async def _authority_at(address: str) -> str:
    """The certificate of the authority that a server shows; it is not believed: its fingerprint is compared next.

    Errors: httpx.HTTPError; ValueError for what is no certificate.
    """
    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    async with httpx.AsyncClient(verify=unverified, timeout=TIMEOUT, trust_env=False) as client:
        response = await client.get(f"https://{address}{AUTHORITY}")
    response.raise_for_status()
    text = response.text[:AUTHORITY_BYTES_MAX]
    fingerprint_of(text)
    return text


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__
