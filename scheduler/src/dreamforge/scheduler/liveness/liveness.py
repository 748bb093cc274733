"""Which runners are alive, as far as their heartbeats and leases tell. Times are given, never read."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from dreamforge.contracts.fleet import LEASE_SECONDS, Heartbeat

# JetStream removes a lease up to 0.3 s late. After a longer silence its removal was not seen (the bucket is in memory,
# and a restarted broker starts with an empty one): then the lease itself is read.
SILENCE = timedelta(seconds=LEASE_SECONDS + 1.0)


@dataclass(slots=True)
class Liveness:
    """`present`: the instance of each live runner. `gone`: when the lease of a runner that was present ended."""

    watching_since: datetime
    present: dict[str, str] = field(default_factory=dict)
    gone: dict[str, datetime] = field(default_factory=dict)
    _heard: dict[str, datetime] = field(default_factory=dict)
    _unrecorded: set[str] = field(default_factory=set)

    def heard(self, heartbeat: Heartbeat, now: datetime) -> bool:
        """A heartbeat came. True if it is of a new runner, or of a new instance of a known one."""
        news = self.present.get(heartbeat.runner_id) != heartbeat.instance_id
        self.present[heartbeat.runner_id] = heartbeat.instance_id
        self._heard[heartbeat.runner_id] = now
        self.gone.pop(heartbeat.runner_id, None)
        self._unrecorded.discard(heartbeat.runner_id)
        return news

    def lease_ended(self, runner_id: str, now: datetime) -> None:
        """A runner's lease expired, or the runner gave it back."""
        self._heard.pop(runner_id, None)
        if self.present.pop(runner_id, None) is not None:
            self.gone[runner_id] = now
            self._unrecorded.add(runner_id)

    def unrecorded(self) -> list[tuple[str, datetime]]:
        """Runners whose loss is not in the log yet, each with the time at which its lease ended."""
        return [(runner_id, self.gone[runner_id]) for runner_id in sorted(self._unrecorded)]

    def recorded(self, runner_id: str) -> None:
        """The loss of a runner is being appended to the log."""
        self._unrecorded.discard(runner_id)

    def silent(self, now: datetime) -> list[str]:
        """Runners that sent no heartbeat for longer than any lease lasts, although no lease was seen to end."""
        return [runner_id for runner_id, at in self._heard.items() if now >= at + SILENCE]

    def postpone(self, runner_id: str, now: datetime) -> None:
        """Count the silence of a runner from now."""
        if runner_id in self._heard:
            self._heard[runner_id] = now

    @property
    def next_silence(self) -> datetime | None:
        """When the first present runner will have been silent for too long, if it sends no heartbeat before."""
        return min(self._heard.values()) + SILENCE if self._heard else None
