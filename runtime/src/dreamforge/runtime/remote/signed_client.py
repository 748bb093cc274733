"""An HTTP client that signs as a runner. Apart from what uses it: its imports are 75 ms of a start."""

from collections.abc import Generator
from pathlib import Path

import httpx

from dreamforge.contracts.errors import ArtifactNotFound, DependencyAway
from dreamforge.runtime import clock
from dreamforge.runtime.log.seeds import seed_in
from dreamforge.runtime.remote.replies import OBJECTS
from dreamforge.runtime.remote.signatures import authorization
from dreamforge.runtime.tls.client_context import client_context

#: A picture of 100 MB over 10 Mbit/s takes 80 s; a connection that is silent for this long is dead.
TIMEOUT = httpx.Timeout(60.0, connect=10.0)


class SignsRequests(httpx.Auth):
    """Signs each request of an httpx client as a runner."""

    def __init__(self, seed: str, runner_id: str) -> None:
        self._seed, self._runner_id = seed, runner_id

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """The path is signed as it is sent."""
        path = request.url.raw_path.decode("ascii")
        seconds = int(clock.now().timestamp())
        request.headers["Authorization"] = authorization(self._seed, self._runner_id, request.method, path, seconds)
        yield request


class SignedClient:
    """Asks one gateway; every error is ArtifactNotFound or DependencyAway("s3")."""

    def __init__(self, url: str, runner_id: str, seed_file: Path | None, ca_file: Path | None) -> None:
        """Makes no request. Errors: InvalidSettings when seed or authority cannot be read."""
        self._url = url
        context = client_context(ca_file, "FORGE_NATS_CA_FILE")
        self._client = httpx.AsyncClient(
            base_url=url,
            auth=SignsRequests(seed_in(seed_file) or "", runner_id),
            verify=True if context is None else context,
            timeout=TIMEOUT,
            trust_env=False,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def ask(
        self, method: str, path: str, data: bytes | None = None, headers: dict[str, str] | None = None
    ) -> bytes:
        """The body of the answer. Errors: ArtifactNotFound(key), DependencyAway."""
        try:
            response = await self._client.request(method, path, content=data, headers=headers)
        except httpx.HTTPError as error:
            reason = f"the gateway at {self._url}: {str(error) or type(error).__name__}"
            raise DependencyAway(dependency="s3", reason=reason) from error
        if response.status_code == httpx.codes.NOT_FOUND:
            raise ArtifactNotFound(artifact_id=path.removeprefix(OBJECTS))
        if not response.is_success:
            raise DependencyAway(dependency="s3", reason=f"the gateway at {self._url} says {said(response)}")
        return response.content


def said(response: httpx.Response) -> str:
    """What a response with an error says, on one line."""
    try:
        return f"{response.status_code}: {response.json()['detail']}"
    except (ValueError, KeyError, TypeError):
        return f"{response.status_code} {response.reason_phrase}"
