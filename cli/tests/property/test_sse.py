"""Whatever a server sends, in whatever pieces, arrives as it was sent."""

from hypothesis import given
from hypothesis import strategies as st

from dreamforge.cli.client.sse import SseMessage, parse

# What can stand on one line of a stream.
LINE = st.text(st.characters(blacklist_characters="\r\n\0", codec="utf-8"))
MESSAGE = st.builds(
    SseMessage,
    event=LINE.filter(bool),
    data=st.lists(LINE, min_size=1, max_size=4).map("\n".join),
    id=LINE,
)


def written(message: SseMessage) -> list[str]:
    data = [f"data: {line}" for line in message.data.split("\n")]
    return [f"id: {message.id}", f"event: {message.event}", *data, ""]


@given(st.lists(MESSAGE, max_size=5))
def test_what_is_written_is_read(messages: list[SseMessage]) -> None:
    assert parse(line for message in messages for line in written(message)) == messages
