"""Real servers as child processes: `dreamforge up`, the demo and every test use them.

`NatsServer`, `PostgresServer` and `S3Server` have one interface (EmbeddedServer); `EmbeddedStack` runs all three;
`spawn` guards any other process the same way: nothing that is started here outlives us, however we end.
"""

from dreamforge.runtime.embedded.errors import EmbeddedError, FolderInUse, PortInUse
from dreamforge.runtime.embedded.guard import GuardedProcess, spawn
from dreamforge.runtime.embedded.nats_server import NatsServer
from dreamforge.runtime.embedded.postgres_server import PostgresServer
from dreamforge.runtime.embedded.s3_server import S3Server
from dreamforge.runtime.embedded.server import EmbeddedServer, ServerProcess
from dreamforge.runtime.embedded.stack import EmbeddedStack

__all__ = [
    "EmbeddedError",
    "EmbeddedServer",
    "EmbeddedStack",
    "FolderInUse",
    "GuardedProcess",
    "NatsServer",
    "PortInUse",
    "PostgresServer",
    "S3Server",
    "ServerProcess",
    "spawn",
]
