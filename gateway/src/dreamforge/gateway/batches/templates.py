"""Prompt templates, expanded by dynamicprompts. Pure, and as slow as a template wants: runs in a process of its own."""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import islice, product
from random import Random  # noqa: TID251  # seeded; and `runtime.ids` takes longer to import than this takes to run

from dynamicprompts.enums import SamplingMethod
from dynamicprompts.parser.parse import parse
from dynamicprompts.sampling_context import SamplingContext
from dynamicprompts.wildcards import WildcardManager
from dynamicprompts.wildcards.values import WildcardValues
from pyparsing import ParseBaseException

from dreamforge.contracts.request.errors import BatchTooLarge, TemplateRefused

Prompts = list[dict[str, str]]
SHOWN_CHARS = 20


class _UnknownWildcard(LookupError):
    pass


class _Wildcards(WildcardManager):
    """The lists of values in memory; a name that has none is an error, where dynamicprompts would leave it as text."""

    def get_values(self, wildcard: str) -> WildcardValues:
        values = super().get_values(wildcard)
        if not len(values):
            names = sorted(self.get_collection_names())
            alike = get_close_matches(wildcard, names, 3, 0.5) or names[:5]
            raise _UnknownWildcard(f"there is no wildcard __{wildcard}__; known: {', '.join(alike) or 'none'}")
        return values


def expand_templates(
    templates: Mapping[str, str],
    wildcards: Mapping[str, Sequence[str]],
    *,
    samples: int | None,
    seed: int,
    maximum: int,
    chars: int,
) -> Prompts:
    """The prompts that the templates stand for, by the name of their parameter.

    Every combination, each once; or `samples` random ones, the same for the same seed, wildcards and version of
    dynamicprompts. Errors: TemplateRefused, BatchTooLarge past `maximum`.
    """
    manager = _Wildcards(root_map={"": [{name: list(values) for name, values in wildcards.items()}]})
    found: dict[str, list[str]] = {}
    for number, (field, template) in enumerate(templates.items()):
        method = SamplingMethod.COMBINATORIAL if samples is None else SamplingMethod.RANDOM
        context = SamplingContext(method, manager, rand=Random(seed + number))
        found[field] = _texts(field, template, context, maximum + 1 if samples is None else samples)
        if any(len(text) > chars for text in found[field]):
            raise TemplateRefused(field=field, reason=f"a prompt that it stands for has more than {chars} characters")
    combined = zip(*found.values(), strict=True) if samples is not None else product(*found.values())
    prompts = [dict(zip(found, each, strict=True)) for each in islice(combined, maximum + 1)]
    if len(prompts) > maximum:
        raise BatchTooLarge(jobs=None, maximum=maximum)
    return prompts


def _texts(field: str, template: str, context: SamplingContext, count: int) -> list[str]:
    try:
        found = list(islice(_unique(context, template), count))
    except ParseBaseException as error:
        where = f"from character {error.loc + 1} on, {template[error.loc : error.loc + SHOWN_CHARS]!r}"
        meaning = "{ } | $ % # and __ have a meaning in a template"
        raise TemplateRefused(field=field, reason=f"it cannot be read {where}: {meaning}") from None
    except _UnknownWildcard as error:
        raise TemplateRefused(field=field, reason=str(error)) from None
    except RecursionError:
        raise TemplateRefused(field=field, reason="it is nested too deeply, or a wildcard contains itself") from None
    except MemoryError:
        raise TemplateRefused(field=field, reason="it takes too much memory") from None
    except Exception as error:  # a template may break the library in any way, and is then a wrong template
        raise TemplateRefused(field=field, reason=f"it cannot be expanded: {error}"[:300]) from None
    if not found:
        raise TemplateRefused(field=field, reason="no prompt fits it: a choice of more values than there are?")
    return found


def _unique(context: SamplingContext, template: str) -> Iterator[str]:
    texts = (str(result) for result in context.sample_prompts(parse(template)))
    if context.default_sampling_method is not SamplingMethod.COMBINATORIAL:
        yield from texts
        return
    seen: set[str] = set()
    for text in texts:
        if text not in seen:
            seen.add(text)
            yield text
