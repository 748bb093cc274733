"""Whoever joins the one reader of the tables, and when: each is told every event of its tenant once, in order."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from dreamforge.contracts.events import JobReleased
from dreamforge.gateway.events.hub import Subscription
from dreamforge.gateway.events.sse import SseEvent, sse_event
from dreamforge.gateway.events.tenant_feed import FeedMember, FeedMembers
from dreamforge.gateway.events.tenant_page import EventPage

TENANTS = ("a", "b")
PAGE_EVENTS = 3
# Two events fit: a page of three of one tenant does not.
LIMIT_BYTES = 400


def event_of(sequence: int) -> SseEvent:
    return sse_event(f"job-{sequence}", sequence, JobReleased(at=datetime(2026, 1, 1, tzinfo=UTC), requested_by="x"))


@dataclass
class Tables:
    """The events of two tenants, the rest of the log between them."""

    tenants: list[str] = field(default_factory=list)

    def of(self, tenant: str, after: int = 0) -> list[int]:
        return [n for n, each in enumerate(self.tenants, 1) if each == tenant and n > after]

    def page(self, tenants: tuple[str, ...], after: int) -> EventPage:
        found = sorted(sequence for tenant in tenants for sequence in self.of(tenant, after))[:PAGE_EVENTS]
        more = len(found) == PAGE_EVENTS
        events = [(self.tenants[sequence - 1], event_of(sequence)) for sequence in found]
        return EventPage(events, found[-1] if more else len(self.tenants), more)


@dataclass
class Client:
    """As `TenantStream`, without I/O: it reads a page for itself until it is told."""

    tenant: str
    position: int
    tables: Tables
    members: FeedMembers
    told: list[int] = field(default_factory=list)
    subscription: Subscription = field(default_factory=lambda: Subscription((), LIMIT_BYTES))
    member: FeedMember | None = None

    def go_on(self) -> None:
        events = self.member.take(self.position) if self.member else None
        if events is None:
            if self.subscription.missed:
                self.leave()
            page = self.tables.page((self.tenant,), self.position)
            events, self.position = [event for _, event in page.events], page.position
            if self.member is None:
                self.subscription.take()
                if not page.more:
                    self.member = self.members.join(self.tenant, frozenset(), self.subscription, self.position)
        self.told += [event.sequence for event in events]
        self.position = max(self.position, *self.told) if self.told else self.position

    def leave(self) -> None:
        if self.member is not None:
            self.members.leave(self.member)
        self.member, self.subscription.missed = None, False


@dataclass
class Reader:
    """As `TenantFeed`, whose read has a beginning, a moment at which the tables are as they are then, and an end."""

    tables: Tables
    members: FeedMembers
    asked: tuple[str, ...] = ()
    page: EventPage | None = None

    def ask(self) -> None:
        self.asked = self.asked or self.members.ask()[0]

    def read(self) -> None:
        if self.asked and self.page is None:
            self.page = self.tables.page(self.asked, self.members.position)

    def tell(self) -> None:
        if self.page is not None:
            self.members.tell(self.page)
            self.asked, self.page = (), None

    def finish(self) -> None:
        self.ask()
        self.read()
        self.tell()


# Most are events and clients that take them: what is rare is between them, not alone.
STEPS = st.lists(
    st.sampled_from(("a", "a", "a", "b", "other", "ask", "read", "tell", "finish", 0, 0, 1, 2, "leave")),
    min_size=10,
    max_size=80,
)


@settings(max_examples=300)
@given(STEPS)
def test_no_interleaving_of_readers_has_a_gap_or_a_repeat(steps: list[str | int]) -> None:
    tables, members = Tables(), FeedMembers()
    reader = Reader(tables, members)
    clients = [Client(tenant, 0, tables, members) for tenant in ("a", "b", "a")]
    for step in steps:
        if isinstance(step, int):
            clients[step].go_on()
        elif step == "leave":
            clients[0].leave()
        elif step in ("ask", "read", "tell", "finish"):
            getattr(reader, step)()
        else:
            tables.tenants.append(step)
    for _ in range(len(tables.tenants) + 3):
        reader.finish()
        for client in clients:
            client.go_on()
    for client in clients:
        assert client.told == tables.of(client.tenant)


def test_members_of_all_tenants_are_told_by_one_page() -> None:
    tables, members = Tables(["a", "b", "other", "a"]), FeedMembers()
    clients = [Client(tenant, 0, tables, members) for tenant in TENANTS * 10]
    for client in clients:
        client.member = members.join(client.tenant, frozenset(), client.subscription, 0)
    tenants, _ = members.ask()
    members.tell(tables.page(tenants, 0))
    for client in clients:
        client.go_on()
    assert [client.told for client in clients[:2]] == [[1, 4], [2]]
    assert {event.tail for client in clients for event in client.subscription.take()} == set()
