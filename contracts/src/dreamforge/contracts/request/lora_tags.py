r"""LoRAs that a prompt names as A1111 writes them: `<lora:NAME>` or `<lora:NAME:WEIGHT>`. Pure.

Two weights are that of the text encoders and that of the network: `<lora:NAME:TEXT_WEIGHT:WEIGHT>`.
`\<lora:...>` is text. Only the prompt is looked at, not the negative prompt, as in A1111.
"""

import re
from collections.abc import Mapping
from difflib import get_close_matches

from dreamforge.contracts.models.descriptor import ModelDescriptor
from dreamforge.contracts.pictures.lora_weights import weights_in
from dreamforge.contracts.request.errors import LoraTagUnsupported, NamedTwice, OutOfBounds, UnknownLora
from dreamforge.contracts.request.values import LORA_WEIGHT_MAX, LoraUse

FIELD = "prompt"
_TAG = re.compile(r"(?P<escape>\\?)<lora:(?P<inside>[^<>]*)>")
# Names that are at least so alike are offered: the default of difflib is 0.6.
ALIKE, OFFERED = 0.5, 3


def without_lora_tags(
    prompt: str, models: Mapping[str, ModelDescriptor], *, field: str = FIELD
) -> tuple[str, tuple[LoraUse, ...]]:
    """A prompt without its tags, and the LoRAs that they name, in order. `field`: what errors call the prompt.

    A name is the id of a registered LoRA, or its id or title but for case, blanks and punctuation.
    Errors: UnknownLora (with the names that are most alike), LoraTagUnsupported (what is supported), OutOfBounds,
    NamedTwice.
    """
    if "<lora:" not in prompt:
        return prompt, ()
    found: dict[str, LoraUse] = {}

    def take(tag: re.Match[str]) -> str:
        if tag["escape"]:
            return tag[0][1:]
        use = _use(tag, models, field)
        if use.model_id in found:
            raise NamedTwice(field=field, value=use.model_id)
        found[use.model_id] = use
        return ""

    text = _TAG.sub(take, prompt)
    return text.strip() if found else text, tuple(found.values())


def with_tags_escaped(prompt: str) -> str:
    r"""The prompt that says this text literally.

    >>> print(with_tags_escaped("a <lora:ink:1> b"))
    a \<lora:ink:1> b
    """
    return _TAG.sub(lambda tag: "\\" + tag[0], prompt)


def _use(tag: re.Match[str], models: Mapping[str, ModelDescriptor], field: str) -> LoraUse:
    name, *numbers = (part.strip() for part in tag["inside"].split(":"))
    weights = weights_in(numbers)
    if not name or weights is None:
        raise LoraTagUnsupported(field=field, value=tag[0][:80])
    for each in weights:
        if each is not None and abs(each) > LORA_WEIGHT_MAX:
            raise OutOfBounds(field=field, value=each, minimum=-LORA_WEIGHT_MAX, maximum=LORA_WEIGHT_MAX)
    return LoraUse(model_id=_named(name, models, field), weight=weights.weight, text_weight=weights.text)


def _named(name: str, models: Mapping[str, ModelDescriptor], field: str) -> str:
    """The id of the LoRA of this name. Errors: UnknownLora."""
    loras = {each.model_id: each for each in models.values() if each.kind == "lora"}
    if name in loras:
        return name
    same = [lora_id for lora_id, each in loras.items() if _plain(name) in (_plain(lora_id), _plain(each.title))]
    if len(same) == 1:
        return same[0]
    by_plain = {_plain(lora_id): lora_id for lora_id in loras}
    alike = same or [by_plain[each] for each in get_close_matches(_plain(name), by_plain, OFFERED, ALIKE)]
    raise UnknownLora(field=field, value=name[:80], alike=tuple(alike), registered=len(loras))


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).casefold()
