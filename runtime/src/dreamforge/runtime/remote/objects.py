"""The object store of a runner on another machine: the gateway of the first one takes and gives the objects, by TLS.

It has the part of `ObjectStore` that a runner uses. What it may do there is in `gateway/remote_runners/objects.py`.
"""

from pathlib import Path
from urllib.parse import quote

import httpx

from dreamforge.contracts.errors import ArtifactNotFound, DependencyAway
from dreamforge.runtime.log.seeds import seed_in
from dreamforge.runtime.remote.signatures import SignsRequests
from dreamforge.runtime.tls.client_context import client_context

#: A picture of 100 MB over 10 Mbit/s takes 80 s; a connection that is silent for this long is dead.
TIMEOUT = httpx.Timeout(60.0, connect=10.0)
OBJECTS, CHECK = "/v1/objects/", "/v1/check"


class RemoteObjects:
    """Objects over HTTPS, each request signed by the runner; every error becomes DependencyAway("s3")."""

    def __init__(self, url: str, runner_id: str, seed_file: Path | None, ca_file: Path | None) -> None:
        """Makes no request. Errors: InvalidSettings when seed or authority cannot be read."""
        self.bucket = url
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

    async def ensure_bucket(self) -> None:
        """The gateway has made it."""

    async def top_names(self) -> list[str]:
        """Nothing: what else is in the bucket is for the gateway to judge."""
        return []

    async def put(self, key: str, data: bytes, content_type: str) -> None:
        """Store bytes under a key that names their hash. Errors: DependencyAway."""
        await self._ask("PUT", OBJECTS + quote(key), data, {"Content-Type": content_type})

    async def get(self, key: str) -> bytes:
        """Read an object. Errors: ArtifactNotFound(key), DependencyAway."""
        return (await self._ask("GET", OBJECTS + quote(key))).content

    async def check(self) -> None:
        """Readiness: the gateway stores and reads for us. Errors: DependencyAway."""
        await self._ask("GET", CHECK)

    async def _ask(
        self, method: str, path: str, data: bytes | None = None, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        try:
            response = await self._client.request(method, path, content=data, headers=headers)
        except httpx.HTTPError as error:
            reason = f"the gateway at {self.bucket}: {str(error) or type(error).__name__}"
            raise DependencyAway(dependency="s3", reason=reason) from error
        if response.status_code == httpx.codes.NOT_FOUND:
            raise ArtifactNotFound(artifact_id=path.removeprefix(OBJECTS))
        if not response.is_success:
            raise DependencyAway(dependency="s3", reason=f"the gateway at {self.bucket} says {said(response)}")
        return response


def said(response: httpx.Response) -> str:
    """What a response with an error says, on one line."""
    try:
        return f"{response.status_code}: {response.json()['detail']}"
    except (ValueError, KeyError, TypeError):
        return f"{response.status_code} {response.reason_phrase}"
