"""Whatever lies in a stream, reading it gives an entry or a reason, and the reason can be parked."""

import json

from hypothesis import given
from hypothesis import strategies as st

from dreamforge.contracts.events import JobRequested
from dreamforge.projector.folding.decode import decode
from dreamforge.projector.parking import MAX_DATA_BYTES, parked_event
from dreamforge.runtime.log.message import LogMessage

# nats-server's default max_payload
MOST_MESSAGE_BYTES = 2**20
types = st.just("ce-type")
headers = st.dictionaries(types | st.text(max_size=8), st.just(JobRequested.TYPE) | st.text(max_size=20))
json_bytes = st.recursive(st.none() | st.text(), st.lists, max_leaves=5).map(lambda value: json.dumps(value).encode())


@given(st.text(min_size=1), headers, st.binary() | json_bytes)
def test_no_bytes_break_the_reader_or_the_parking(subject: str, headers: dict[str, str], data: bytes) -> None:
    message = LogMessage(subject, headers, data, 7)
    (read,) = decode([message])

    assert read.entry is None
    event = parked_event("JOBS", message, read.problem)
    assert (event.sequence, event.data) == (7, data)
    assert json.loads(event.model_dump_json())["sequence"] == 7


def test_the_largest_message_can_still_be_parked() -> None:
    headers = {f"{number}" + "\0" * 2_000: "\udcff\0" * 2_000 for number in range(200)}
    event = parked_event("JOBS", LogMessage("s" * 5_000, headers, b"\xff" * MOST_MESSAGE_BYTES, 7), "\0" * 5_000)

    assert len(event.data) == MAX_DATA_BYTES
    assert len(event.model_dump_json().encode()) < MOST_MESSAGE_BYTES
