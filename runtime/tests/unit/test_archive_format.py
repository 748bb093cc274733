"""Laws of the bytes of an archive object."""

import gzip

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamforge.runtime.log.message import LogMessage
from dreamforge.runtime.storage.archive_format import EMPTY_BYTES, filler, members, packed, unpacked, without

messages = st.lists(
    st.builds(
        LogMessage,
        subject=st.text(min_size=1, max_size=20),
        headers=st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3),
        data=st.binary(max_size=60) | st.text(max_size=60).map(str.encode),
        sequence=st.integers(1, 2**63),
    ),
    min_size=1,
    max_size=5,
).map(tuple)
jobs = st.lists(messages, min_size=1, max_size=6)


@settings(max_examples=40)
@given(jobs)
def test_each_job_comes_back_as_it_was_and_from_its_range_alone(stored: list[tuple[LogMessage, ...]]) -> None:
    data = b"".join(map(packed, stored))
    found = list(members(data))
    assert [member.messages for member in found] == stored
    assert [unpacked(data[m.offset_bytes : m.offset_bytes + len(m.data)]) for m in found] == stored


@settings(max_examples=40)
@given(jobs, st.data())
def test_what_is_erased_is_gone_and_the_places_of_the_others_stay_true(
    stored: list[tuple[LogMessage, ...]], choice: st.DataObject
) -> None:
    data = b"".join(map(packed, stored))
    before = list(members(data))
    erased = choice.draw(st.integers(0, len(stored) - 1))
    place = before[erased]
    rest = without(data, place.offset_bytes, len(place.data))
    assert len(rest) == len(data)
    for number, member in enumerate(before):
        found = unpacked(rest[member.offset_bytes : member.offset_bytes + len(member.data)])
        assert found == (() if number == erased else stored[number])
    assert sum(bool(member.messages) for member in members(rest)) == len(stored) - 1
    assert gzip.decompress(rest).count(b"\n") == sum(map(len, stored)) - len(stored[erased])


@settings(max_examples=40)
@given(st.integers(EMPTY_BYTES, 300_000))
def test_a_filler_has_any_length_and_no_content(size_bytes: int) -> None:
    made = filler(size_bytes)
    assert (len(made), unpacked(made)) == (size_bytes, ())


@pytest.mark.parametrize("cut", [1, 30])
def test_an_object_that_is_cut_off_is_refused(cut: int) -> None:
    data = packed((LogMessage("forge.jobs.J.0.requested", {}, b"{}", 1),))
    with pytest.raises(ValueError, match=r"cut off|no gzip member"):
        list(members(data[:-cut]))
    with pytest.raises(ValueError, match="Error"):
        unpacked(data[:-cut])
