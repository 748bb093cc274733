"""What a quota promises, whatever is asked, counted and undone in whatever order."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from dreamforge.gateway.quotas.token_bucket import take
from dreamforge.gateway.quotas.usage import Count, TenantUsage, UsedAmount

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
TENANTS = st.sampled_from("ab")
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), TENANTS, st.integers(1, 9)),
        st.tuples(st.just("record"), st.integers(0, 20), st.none()),
        st.tuples(st.just("undo"), st.integers(0, 20), st.none()),
        st.tuples(st.just("count"), st.integers(0, 30), st.none()),
    ),
    max_size=40,
)


@given(ACTIONS)
def test_what_was_accepted_is_counted_once_from_its_admission_on(actions):
    """Against the truth: events with their sequences, of which a count has those up to where the tables are."""
    usage, log, pending, reached = TenantUsage(), [], [], 0
    for action, value, amount in actions:
        if action == "add":
            pending.append(usage.add(value, amount))
        elif action == "record" and pending:
            addition = pending.pop(value % len(pending))
            addition.sequence = len(log) + 1
            log.append(addition)
        elif action == "undo" and pending:
            usage.undo(pending.pop(value % len(pending)))
        elif action == "count":
            reached = max(reached, min(value, len(log)))
            counted = log[:reached]
            used = {
                tenant: (UsedAmount(sum(each.amount for each in counted if each.tenant == tenant)),) for tenant in "ab"
            }
            usage.counted(Count(reached, used))
        for tenant in "ab":
            truth = sum(each.amount for each in (*log, *pending) if each.tenant == tenant)
            assert usage.used(tenant, NOON) == truth
        assert usage.total() == sum(each.amount for each in (*log, *pending))


@given(
    st.lists(st.tuples(st.integers(1, 100), st.none() | st.integers(-60, 3600)), max_size=8),
    st.integers(0, 50),
    st.integers(-10, 400),
)
def test_the_time_at_which_there_is_room_is_the_first_one(parts, added, most):
    at = [
        UsedAmount(amount, None if seconds is None else NOON + timedelta(seconds=seconds)) for amount, seconds in parts
    ]
    usage = TenantUsage()
    usage.counted(Count(0, {"a": tuple(at)}))
    usage.add("a", added)
    times = sorted({NOON, *(part.until for part in at if part.until is not None and part.until > NOON)})
    first = next((time for time in times if usage.used("a", time) <= most), None)
    assert usage.fits_at("a", most, NOON) == first


@given(
    st.floats(0.1, 50),
    st.lists(st.floats(0, 2), max_size=60),
)
def test_no_second_has_more_than_two_seconds_worth_and_the_wait_is_true(rate, pauses):
    """A full bucket and a second of refill; and who waits as long as it was told is served."""
    bucket, now, taken = None, 0.0, []
    for pause in pauses:
        now += pause
        bucket, early_seconds = take(bucket, rate, now)
        if early_seconds:
            assert take(bucket, rate, now + early_seconds + 1e-6)[1] == 0
        else:
            taken.append(now)
    for start in taken:
        assert sum(start <= at <= start + 1 for at in taken) <= max(1.0, rate) + rate + 1
