"""Which runners are there, as far as heartbeats tell. Times are given, never read."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from dreamforge.contracts.fleet import LEASE_SECONDS, Heartbeat

# JetStream removes a lease up to 0.3 s late; silence beyond this means that its removal was not seen (the bucket
# lives in memory and a restarted broker has forgotten it): then the key itself is looked at.
SILENCE = timedelta(seconds=LEASE_SECONDS + 1.0)


@dataclass(slots=True)
class Attendance:
    """`present`: instance by runner. `gone`: since when those are away that were seen going. Both by runner id."""

    watching_since: datetime
    present: dict[str, str] = field(default_factory=dict)
    gone: dict[str, datetime] = field(default_factory=dict)
    _heard: dict[str, datetime] = field(default_factory=dict)
    _unsaid: set[str] = field(default_factory=set)

    def beat(self, beat: Heartbeat, now: datetime) -> bool:
        """A runner was heard. True if that is news: a new one, or a new instance of an old one."""
        news = self.present.get(beat.runner_id) != beat.instance_id
        self.present[beat.runner_id] = beat.instance_id
        self._heard[beat.runner_id] = now
        self.gone.pop(beat.runner_id, None)
        self._unsaid.discard(beat.runner_id)
        return news

    def left(self, runner_id: str, now: datetime) -> None:
        """A runner's lease ended, or it gave it back."""
        self._heard.pop(runner_id, None)
        if self.present.pop(runner_id, None) is not None:
            self.gone[runner_id] = now
            self._unsaid.add(runner_id)

    def unsaid(self) -> list[tuple[str, datetime]]:
        """Runners that are gone, and since when, of which the fleet's log was not yet told."""
        return [(runner_id, self.gone[runner_id]) for runner_id in sorted(self._unsaid)]

    def said(self, runner_id: str) -> None:
        """The fleet's log was told."""
        self._unsaid.discard(runner_id)

    def silent(self, now: datetime) -> list[str]:
        """Runners unheard for longer than any lease lasts, though nobody saw them go."""
        return [runner_id for runner_id, at in self._heard.items() if now >= at + SILENCE]

    def excuse(self, runner_id: str, now: datetime) -> None:
        """Ask about a silent runner again later."""
        if runner_id in self._heard:
            self._heard[runner_id] = now

    @property
    def next_silence(self) -> datetime | None:
        """When the first of those present will have been silent for too long, unless heard before."""
        return min(self._heard.values()) + SILENCE if self._heard else None
