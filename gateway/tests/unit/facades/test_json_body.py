"""Large bodies are parsed in pieces, and mean what JSON says."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamforge.gateway.facades import json_body
from dreamforge.gateway.facades.json_body import LONG_TEXT_BYTES, cut_long_texts, parsed
from dreamforge.gateway.http.errors import BodyTooLarge

LONG = LONG_TEXT_BYTES
TEXTS = st.one_of(
    st.text(max_size=8),
    st.builds(
        lambda part, tail: part * (LONG // len(part) + 2) + tail, st.text(min_size=1, max_size=8), st.text(max_size=4)
    ),
    st.sampled_from(["\\" * (LONG + 1), "/" * (LONG + 1), "\\/" * LONG, '\\"' * LONG, "a\n" * LONG, "\\n" * LONG]),
)
VALUES = st.recursive(
    st.one_of(TEXTS, st.integers(), st.booleans(), st.none(), st.floats(allow_nan=False, allow_infinity=False)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(VALUES, st.booleans(), st.booleans())
def test_a_document_means_the_same_as_parsed_at_once(value: object, escapes_slashes: bool, ascii_only: bool) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    if escapes_slashes:
        body = body.replace(b"/", b"\\/")
    try:
        expected = json.loads(body)
    except UnicodeDecodeError:
        return
    assert parsed(body, len(body)) == expected


def test_only_what_is_short_goes_through_the_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    given_to_parser: list[int] = []
    loads = json.loads
    monkeypatch.setattr(
        json_body.json, "loads", lambda text, **options: given_to_parser.append(len(text)) or loads(text, **options)
    )
    image = "A/+=" * 2**20
    assert parsed(json.dumps({"init_images": [image] * 3, "prompt": "x"}).encode(), 100) == {
        "init_images": [image] * 3,
        "prompt": "x",
    }
    assert given_to_parser == [len('{"init_images": [NaN, NaN, NaN], "prompt": "x"}')]


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b"1," * 2**20 + b"1]",
        b'["' + b'\\"' * 2**20 + b'"]',
        b'["' + b"\\" * 2**20 + b'"]',
        b'"a",' * 2**20,
        b" " * 2**20,
    ],
    ids=["numbers", "quotes", "backslashes", "short texts", "spaces"],
)
def test_what_is_no_long_text_is_bounded(body: bytes) -> None:
    with pytest.raises(BodyTooLarge):
        cut_long_texts(body, 65_536)


@pytest.mark.parametrize(
    "body", [b'{"a": NaN}', b'{"a": Infinity, "b": "' + b"x" * LONG * 2 + b'"}', b'["' + b"x" * LONG * 2, b"{"]
)
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"JSON|Expecting|Unterminated|Invalid"):
        parsed(body, 65_536)
