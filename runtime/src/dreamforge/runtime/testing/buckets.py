"""A bucket of its own for every test."""

from dataclasses import dataclass, replace

from minio import Minio

from dreamforge.runtime.storage.s3_client import s3_client
from dreamforge.runtime.testing.databases import fresh_name


@dataclass(frozen=True, slots=True)
class S3Settings:
    """The FORGE_S3_* settings as a value; `endpoint` is host:port or unix:/path."""

    endpoint: str
    access_key: str
    secret_key: str
    bucket: str
    secure: bool = False

    @classmethod
    def of(cls, settings_env: dict[str, str]) -> "S3Settings":
        values = {name.removeprefix("FORGE_S3_").lower(): value for name, value in settings_env.items()}
        return cls(**(values | {"secure": values.get("secure", "false").lower() == "true"}))  # type: ignore[arg-type]

    def settings_env(self) -> dict[str, str]:
        return {
            "FORGE_S3_ENDPOINT": self.endpoint,
            "FORGE_S3_ACCESS_KEY": self.access_key,
            "FORGE_S3_SECRET_KEY": self.secret_key,
            "FORGE_S3_BUCKET": self.bucket,
            "FORGE_S3_SECURE": str(self.secure).lower(),
        }

    def with_fresh_bucket(self) -> "S3Settings":
        """The same server, a bucket that does not exist yet: the object store must create it."""
        return replace(self, bucket=fresh_name("bucket").replace("_", "-"))

    def client(self) -> Minio:
        """With a region given, so that it never asks for the bucket's: rclone answers that in a way it rejects."""
        keys = self.access_key, self.secret_key
        return s3_client(self.endpoint, *keys, secure=self.secure, region="us-east-1", timeout_seconds=10.0)

    def remove_bucket(self) -> None:
        """Remove the bucket with its objects; nothing to do when it does not exist."""
        client = self.client()
        if client.bucket_exists(self.bucket):
            for item in client.list_objects(self.bucket, recursive=True):
                client.remove_object(self.bucket, str(item.object_name))
            client.remove_bucket(self.bucket)
