"""Words of a prompt that stand for a registered embedding (textual inversion). Pure.

A word is the id or the title of an embedding, whatever its case, as A1111 has it, or `embedding:NAME` as in ComfyUI,
also with the ending of a file.
"""

import re
from collections.abc import Callable, Collection, Iterable

_ENDING = r"(?:\.(?:safetensors|pt|bin))?"
# Neither side of a name may go on as a name does; a full stop after it ends a sentence.
_BEFORE, _AFTER = r"(?<![\w-])", r"(?![\w-])"
_NAMED = re.compile(rf"{_BEFORE}embedding:([\w-]+(?:\.[\w-]+)*?){_ENDING}{_AFTER}(?!\.\w)", re.IGNORECASE)


def embedding_names(text: str) -> tuple[str, ...]:
    """What a text names outright, without the endings of files.

    >>> embedding_names("(embedding:bad-hands:1.2), embedding:Easy.v2.pt, a fox.")
    ('bad-hands', 'Easy.v2')
    """
    return tuple(match[1] for match in _NAMED.finditer(text))


def words_in(texts: Iterable[str], words: Iterable[str]) -> tuple[str, ...]:
    """Those of the words that stand in a text, where a longer word hides the shorter ones inside of it.

    >>> words_in(["a fox, BadHands-v2."], ["badhands", "badhands-v2", "cat"])
    ('badhands-v2',)
    """
    folded = [text.casefold() for text in texts]
    likely = [word for word in words if word and any(word.casefold() in text for text in folded)]
    found = (
        {_meant(match[1], likely) for text in texts for match in _pattern(likely).finditer(text)} if likely else set()
    )
    return tuple(word for word in likely if word in found)


def with_words_replaced(text: str, words: Collection[str], replacement: Callable[[str], str]) -> str:
    """The text with what `replacement` gives for each word in place of it.

    >>> with_words_replaced("(embedding:Easy:1.2) easy.", ["easy"], lambda word: "<0>")
    '(<0>:1.2) <0>.'
    """
    if not words:
        return text
    return _pattern(words).sub(lambda match: replacement(_meant(match[1], words)), text)


def _meant(said: str, words: Collection[str]) -> str:
    """The first word that differs in case at most. What that is, only `re` knows: for it an i without a dot is one."""
    return next(word for word in words if re.fullmatch(re.escape(word), said, re.IGNORECASE))


def _pattern(words: Collection[str]) -> re.Pattern[str]:
    longest_first = sorted(words, key=len, reverse=True)
    names = "|".join(map(re.escape, longest_first))
    return re.compile(rf"{_BEFORE}(?:embedding:)?({names}){_ENDING}{_AFTER}", re.IGNORECASE)
