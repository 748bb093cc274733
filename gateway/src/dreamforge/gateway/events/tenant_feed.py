"""One reader of the tables for all streams of tenants of a process: those that have caught up are told what is new."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from loguru import logger

from dreamforge.contracts.errors import DependencyAway
from dreamforge.gateway.events.hub import EVENTS, Subscription
from dreamforge.gateway.events.sse import SseEvent
from dreamforge.gateway.events.tenant_page import EventPage, read_page
from dreamforge.gateway.read.checkpoints import Checkpoints
from dreamforge.gateway.read.database import Database

# Between two reads of the tables: what a busy fleet does meanwhile comes in one page.
READ_SECONDS = 0.05
# After a read that failed.
AWAY_SECONDS = 1.0


@dataclass(slots=True, eq=False)
class FeedMember:
    """A stream that is told every event of its tenant after `since`, unless its subscription has missed some.

    `types`: the events that it needs; none: all.
    """

    tenant: str
    types: frozenset[str]
    subscription: Subscription
    since: int
    reached: int
    """Up to here it was told everything."""

    def take(self, position: int) -> list[SseEvent] | None:
        """All events after `position`, with the steps that came; None: read the tables, up to `since` or anew."""
        if position < self.since or self.subscription.missed:
            return None
        return [event for event in self.subscription.take() if event.is_step or event.sequence > position]


class FeedMembers:
    """Who is told what, and how far the tables were read for all. No I/O."""

    def __init__(self) -> None:
        self.position = 0
        self._members: dict[str, dict[FeedMember, None]] = {}
        self._asked: set[FeedMember] = set()

    def join(self, tenant: str, types: frozenset[str], subscription: Subscription, position: int) -> FeedMember:
        """A stream that has the events up to `position`, or nearly: see `FeedMember.take`."""
        if not self._members:
            self.position = position
        member = FeedMember(tenant, types, subscription, since=self.position, reached=self.position)
        self._members.setdefault(tenant, {})[member] = None
        return member

    def leave(self, member: FeedMember) -> None:
        """Tell it no more."""
        members = self._members[member.tenant]
        del members[member]
        if not members:
            del self._members[member.tenant]

    def ask(self) -> tuple[tuple[str, ...], frozenset[str]]:
        """The tenants and types of the next page; none where no stream is to be told."""
        self._asked = set(self._all())
        types = [member.types for member in self._asked]
        return tuple(self._members), frozenset().union(*types) if all(types) else frozenset()

    def tell(self, page: EventPage) -> None:
        """Hand out the page that was asked for. Who has joined since then may get a part: it reads up to its end."""
        for tenant, event in page.events:
            told = self._members.get(tenant, ())
            for member in told:
                member.subscription.push(event)
            EVENTS.inc(len(told))
        self.position = page.position
        for member in self._all():
            member.reached = page.position
            if member not in self._asked:
                member.since = page.position
                member.subscription.notify()
        self._asked = set()

    def _all(self) -> Iterable[FeedMember]:
        return (member for members in self._members.values() for member in members)


class TenantFeed:
    """Reads a page for all members each time the tables have moved."""

    def __init__(self, database: Database, checkpoints: Checkpoints) -> None:
        self._database, self._checkpoints = database, checkpoints
        self._members = FeedMembers()
        self._wake = asyncio.Event()

    def join(self, tenant: str, types: frozenset[str], subscription: Subscription, position: int) -> FeedMember:
        """See `FeedMembers.join`."""
        self._wake.set()
        return self._members.join(tenant, types, subscription, position)

    def leave(self, member: FeedMember) -> None:
        """Tell it no more."""
        self._members.leave(member)

    async def run(self) -> None:
        """Read and tell until cancelled."""
        with self._checkpoints.told(self._wake.set):
            while True:
                await self._wake.wait()
                self._wake.clear()
                try:
                    while await self._read():
                        pass
                except DependencyAway as error:
                    logger.warning("the events of tenants wait: {}", error)
                    asyncio.get_running_loop().call_later(AWAY_SECONDS, self._wake.set)
                await asyncio.sleep(READ_SECONDS)

    async def _read(self) -> bool:
        """Tell the next page; whether there may be another."""
        tenants, types = self._members.ask()
        if not tenants or self._checkpoints.reached <= self._members.position:
            return False
        page = await read_page(self._database, tenants, self._members.position, types)
        self._members.tell(page)
        return page.more
