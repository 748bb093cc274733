"""SQLAlchemy's asynchronous engine, without its sessions.

The package imports those too, and with them the object-relational mapper: 100 ms of the start of a gateway.
"""

# ruff: noqa: E402
from dreamforge.runtime.left_out import leave_out

leave_out("sqlalchemy.ext.asyncio.scoping", "async_scoped_session")
leave_out(
    "sqlalchemy.ext.asyncio.session",
    *("async_object_session", "async_session", "async_sessionmaker", "close_all_sessions"),
    *("AsyncAttrs", "AsyncSession", "AsyncSessionTransaction"),
)

from sqlalchemy.ext.asyncio import AsyncEngine as AsyncEngine
from sqlalchemy.ext.asyncio import create_async_engine as create_async_engine
