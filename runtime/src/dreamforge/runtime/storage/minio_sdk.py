"""What we use of the MinIO SDK, imported without its client for administrators.

The package imports that too, and with it ciphers and a parser of C: 60 to 90 ms of the start of each service, for what
none of them calls. A program that wants it imports `minio` before this.
"""

import sys
from types import ModuleType

if "minio" not in sys.modules:
    _left_out = ModuleType("minio.minioadmin", "Left out: see dreamforge.runtime.storage.minio_sdk.")
    _left_out.MinioAdmin = None  # type: ignore[attr-defined]
    sys.modules[_left_out.__name__] = _left_out

from minio import Minio as Minio
from minio.commonconfig import CopySource as CopySource
from minio.error import InvalidResponseError as InvalidResponseError
from minio.error import MinioException as MinioException
from minio.error import S3Error as S3Error
