"""The object store of a runner on another machine: the gateway of the first one takes and gives the objects, by TLS.

It has the part of `ObjectStore` that a runner uses. What it may do there is in `gateway/remote_runners/objects.py`.
"""

from pathlib import Path
from urllib.parse import quote

from dreamforge.runtime.remote.replies import CHECK, OBJECTS


class RemoteObjects:
    """Objects over HTTPS, each request signed by the runner; every error becomes DependencyAway("s3")."""

    def __init__(self, url: str, runner_id: str, seed_file: Path | None, ca_file: Path | None) -> None:
        """Makes no request. Errors: InvalidSettings when seed or authority cannot be read."""
        # An HTTP client is 75 ms of the start of each runner, and most have the store itself.
        from dreamforge.runtime.remote.signed_client import SignedClient

        self.bucket = url
        self._client = SignedClient(url, runner_id, seed_file, ca_file)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def ensure_bucket(self) -> None:
        """The gateway has made it."""

    async def top_names(self) -> list[str]:
        """Nothing: what else is in the bucket is for the gateway to judge."""
        return []

    async def put(self, key: str, data: bytes, content_type: str) -> None:
        """Store bytes under a key that names their hash. Errors: DependencyAway."""
        await self._client.ask("PUT", OBJECTS + quote(key), data, {"Content-Type": content_type})

    async def get(self, key: str) -> bytes:
        """Read an object. Errors: ArtifactNotFound(key), DependencyAway."""
        return await self._client.ask("GET", OBJECTS + quote(key))

    async def check(self) -> None:
        """Readiness: the gateway stores and reads for us. Errors: DependencyAway."""
        await self._client.ask("GET", CHECK)
