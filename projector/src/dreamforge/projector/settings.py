"""Settings of the projector: `FORGE_PROJECTOR_*`."""

from pydantic import Field

from dreamforge.runtime.storage.settings import StorageSettings


class ProjectorSettings(StorageSettings):
    """`FORGE_PROJECTOR_*` and the common `FORGE_*` settings."""

    projector_migrate: bool = Field(default=True, description="bring the database to the newest version at start")
    projector_batch_messages: int = Field(default=4_000, ge=1, description="most events folded in one transaction")
    projector_step_seconds: float = Field(
        default=0.1, ge=0, description="shortest time between two writes of step progress; the newest step wins"
    )
    projector_collect_seconds: float = Field(default=600, gt=0, description="between two collections of lost objects")
    projector_erase_seconds: float = Field(
        default=1.0, gt=0, description="between two looks for deleted jobs whose grace period is over"
    )
    retention_uploads_days: float = Field(
        default=0.0, ge=0, description="uploads that are older are deleted, used or not; 0: they are kept"
    )
    retention_unused_uploads_hours: float = Field(
        default=24.0, ge=0, description="uploads that no job names are deleted when they are older; 0: never"
    )
    retention_jobs_days: float = Field(
        default=0.0, ge=0, description="finished jobs that are older are deleted; 0: they are kept"
    )
    archive_jobs_days: float = Field(
        default=0.0,
        ge=0,
        description="the events of jobs that ended longer ago are moved from the log to the object store, where they"
        " are still read; 0: they stay in the log",
    )
    projector_collect_grace_seconds: float = Field(
        default=3_600, ge=0, description="age below which an object is never collected; a runner may be about to use it"
    )
