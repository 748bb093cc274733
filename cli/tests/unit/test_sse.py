"""The parser reads what the standard allows a server to send."""

from dreamforge.cli.client.sse import SseMessage, SseParser, parse


def test_a_message_ends_at_its_blank_line() -> None:
    lines = ["id: 3-0", "event: started", 'data: {"a": 1}', "", "id: 3-1", "event: step", "data: {}"]
    assert parse(lines) == [SseMessage("started", '{"a": 1}', "3-0")]


def test_several_data_lines_are_one_text() -> None:
    assert parse(["data: a", "data:", "data: b", ""]) == [SseMessage("message", "a\n\nb")]


def test_heartbeats_and_lone_ids_are_no_messages() -> None:
    assert parse([": still here", "", "id: 9-9", ""]) == []


def test_an_id_holds_until_the_next_one() -> None:
    assert [m.id for m in parse(["id: 1-0", "data: a", "", "data: b", ""])] == ["1-0", "1-0"]


def test_one_blank_after_the_colon_is_not_content() -> None:
    assert parse(["data:  two blanks", ""])[0].data == " two blanks"


def test_retry_is_in_seconds_and_nonsense_is_ignored() -> None:
    parser = SseParser()
    for line in ("retry: soon", "retry: 1500", "colour: red"):
        assert list(parser.feed(line)) == []
    assert parser.retry_seconds == 1.5
