"""What we use of the MinIO SDK, without its client for administrators.

The package imports that too, and with it ciphers and a parser of C: 60 to 90 ms of the start of each service.
"""

# ruff: noqa: E402
from dreamforge.runtime.left_out import leave_out

leave_out("minio.minioadmin", "MinioAdmin")

from minio import Minio as Minio
from minio.commonconfig import CopySource as CopySource
from minio.error import InvalidResponseError as InvalidResponseError
from minio.error import MinioException as MinioException
from minio.error import S3Error as S3Error
