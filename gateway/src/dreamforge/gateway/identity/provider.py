"""The provider as this gateway knows it: its endpoints and keys, fetched again and again, the last good ones kept."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import httpx
from joserfc.jwk import KeySet
from loguru import logger

from dreamforge.contracts.errors import DependencyAway
from dreamforge.gateway.identity.endpoints import required_endpoint
from dreamforge.gateway.identity.tokens import key_set
from dreamforge.runtime import clock

WELL_KNOWN = "/.well-known/openid-configuration"
DOCUMENT_BYTES_MAX = 256 * 1024
# Keys that the provider has withdrawn are refused after this time at the latest.
REFRESH_SECONDS = 300.0
# A token with an unknown key makes us ask again, so their senders must not decide how often.
PAUSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Endpoints:
    """What the discovery document says. The two of the sign-in may be missing where only bearer tokens are used."""

    jwks: str
    authorization: str | None
    token: str | None
    authentication_methods: tuple[str, ...]

    @classmethod
    def of(cls, document: object, issuer: str) -> "Endpoints":
        """Errors: ValueError for a document of another issuer, or with endpoints that are not safe to use."""
        if not isinstance(document, dict) or document.get("issuer") != issuer:
            raise ValueError(f"the discovery document is not of the issuer {issuer}")
        methods = document.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        return cls(
            _endpoint(document, "jwks_uri"),
            _endpoint(document, "authorization_endpoint") if "authorization_endpoint" in document else None,
            _endpoint(document, "token_endpoint") if "token_endpoint" in document else None,
            tuple(each for each in methods if isinstance(each, str)) if isinstance(methods, list) else (),
        )


def _endpoint(document: dict[str, Any], name: str) -> str:  # Any: a JSON document
    try:
        return required_endpoint(document.get(name))
    except ValueError as error:
        raise ValueError(f"{name} of the discovery document {error}") from None


@dataclass(slots=True)
class Provider:
    """`timeout_seconds` bounds one request, `pause_seconds` is the least time between two fetches."""

    issuer: str
    timeout_seconds: float
    pause_seconds: float = PAUSE_SECONDS
    _endpoints: Endpoints | None = None
    _keys: KeySet | None = None
    _client: httpx.AsyncClient = field(default_factory=httpx.AsyncClient)
    _wanted: asyncio.Event = field(default_factory=asyncio.Event)
    _fetched: asyncio.Event = field(default_factory=asyncio.Event)
    _fetching: bool = False
    _fetched_at_seconds: float = float("-inf")
    _failure: str = ""

    @property
    def endpoints(self) -> Endpoints:
        """Errors: DependencyAway until they were read once."""
        if self._endpoints is None:
            raise self._away()
        return self._endpoints

    @property
    def keys(self) -> KeySet:
        """The newest keys. Errors: DependencyAway until they were read once."""
        if self._keys is None:
            raise self._away()
        return self._keys

    async def refreshed(self) -> None:
        """Wait for the next fetch, unless there was one a moment ago: then its keys are the newest there are."""
        recent = clock.monotonic_seconds() - self._fetched_at_seconds < self.pause_seconds
        if recent and not self._fetching:
            return
        self._wanted.set()
        try:
            async with asyncio.timeout(self.timeout_seconds):
                await self._fetched.wait()
        except TimeoutError:
            return

    async def run(self) -> None:
        """Fetch until cancelled: at start, then every REFRESH_SECONDS, and when a token names an unknown key."""
        while True:
            self._wanted.clear()
            self._fetching = True
            await self._fetch()
            self._fetching, self._fetched_at_seconds = False, clock.monotonic_seconds()
            fetched, self._fetched = self._fetched, asyncio.Event()
            fetched.set()
            await asyncio.sleep(self.pause_seconds)
            if not self._failure:
                try:
                    async with asyncio.timeout(REFRESH_SECONDS):
                        await self._wanted.wait()
                except TimeoutError:
                    pass

    async def request(self, method: str, url: str, **options: Any) -> tuple[int, object]:  # Any: as httpx declares them
        """The status and the JSON of an answer, bounded in size and time; no redirect is followed.

        Errors: DependencyAway (no answer, or one that is not JSON).
        """
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        try:
            async with asyncio.timeout(self.timeout_seconds):
                async with self._client.stream(method, url, headers=headers, **options) as answer:
                    body = bytearray()
                    async for part in answer.aiter_raw():
                        body += part
                        if len(body) > DOCUMENT_BYTES_MAX:
                            raise ValueError(f"the answer is larger than {DOCUMENT_BYTES_MAX} bytes")
                    return answer.status_code, json.loads(body)
        except (httpx.HTTPError, ValueError, RecursionError, TimeoutError) as error:
            raise DependencyAway(dependency="oidc", reason=str(error) or type(error).__name__) from error

    async def close(self) -> None:
        """Disconnect."""
        await self._client.aclose()

    async def _fetch(self) -> None:
        try:
            endpoints = Endpoints.of(await self._document(self.issuer.rstrip("/") + WELL_KNOWN), self.issuer)
            self._keys = key_set(await self._document(endpoints.jwks))
            self._endpoints = endpoints
        except (DependencyAway, ValueError) as error:
            reason = error.reason if isinstance(error, DependencyAway) else str(error)
            if reason != self._failure:
                kept = "the keys that were read before stay valid" if self._keys else "no token can be verified"
                logger.warning("the OpenID Connect provider {} cannot be read, {}: {}", self.issuer, kept, reason)
            self._failure = reason
            return
        if self._failure:
            logger.info("the OpenID Connect provider {} can be read again", self.issuer)
        self._failure = ""

    async def _document(self, url: str) -> object:
        status, document = await self.request("GET", url)
        if status != 200:
            raise DependencyAway(dependency="oidc", reason=f"{url} answered {status}")
        return document

    def _away(self) -> DependencyAway:
        return DependencyAway(dependency="oidc", reason=self._failure or "the provider has not been read yet")
