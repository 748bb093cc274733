"""Cursors go round, and nothing else gets in."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamforge.gateway.http.cursor import PAGE_PATTERN, SEQUENCE_MAX, EventCursor, PageCursor
from dreamforge.gateway.http.errors import Malformed

times = st.datetimes(datetime(1970, 1, 1), datetime(6500, 12, 31), timezones=st.just(UTC))
sequences = st.integers(0, 10**18 - 1)


@given(times, st.uuids().map(str))
def test_a_page_cursor_goes_round(at: datetime, job_id: str) -> None:
    cursor = PageCursor(at, job_id)
    assert PageCursor.decode(cursor.encode()) == cursor
    assert len(cursor.encode()) <= 64


@given(st.from_regex(PAGE_PATTERN[:-1] + r"\Z"))
def test_every_text_of_the_shape_is_a_cursor(text: str) -> None:
    assert PageCursor.decode(text).encode() == text


@given(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")))
def test_any_text_is_a_page_cursor_or_malformed(text: str) -> None:
    try:
        cursor = PageCursor.decode(text)
    except Malformed:
        return
    assert PageCursor.decode(cursor.encode()) == cursor


@given(sequences, sequences)
def test_an_event_id_goes_round(facts: int, steps: int) -> None:
    assert EventCursor.parse(str(EventCursor(facts, steps))) == EventCursor(facts, steps)


@given(st.text())
def test_any_text_is_an_event_id_or_malformed(text: str) -> None:
    try:
        cursor = EventCursor.parse(text)
    except Malformed:
        return
    assert min(cursor.facts, cursor.steps) >= 0
    assert max(cursor.facts, cursor.steps) <= SEQUENCE_MAX


@pytest.mark.parametrize("text", ["é", "A" * 32 + "=", "_" * 32, "a b", ""])
def test_a_forged_page_cursor_never_reaches_the_database(text: str) -> None:
    with pytest.raises(Malformed):
        PageCursor.decode(text)
