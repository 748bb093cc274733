"""The bounds of one parameter: intersected, checked and written as JSON Schema. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dreamforge.contracts.request.errors import NotAllowed, OutOfBounds

Json = dict[str, Any]  # Any: parts of a JSON document
# An error quotes this much of a value: a whole hash, the beginning of a prompt.
SHOWN_CHARS = 64
# What `minimum` and `maximum` mean for each JSON type, and how an error names what was measured.
_KEYWORDS = {"string": ("minLength", "maxLength"), "array": ("minItems", "maxItems")}
_MEASURED: dict[type, str] = {str: " (characters)", tuple: " (number)"}


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is allowed of a parameter. None does not restrict."""

    minimum: float | None = None
    """Of a number its value, of a text its characters, of a list its items."""
    maximum: float | None = None
    multiple: int | None = None
    """In the schema only: the error names both sides of a size, so `parameters.check_size` raises it."""
    choices: tuple[str, ...] | None = None
    constant: str | None = None
    default: object = None
    """In the schema only."""
    inside: Mapping[str, "Bounds | None"] = field(default_factory=dict)
    """Of the fields of a nested value; None: the model does not have it."""

    def narrowed(self, other: "Bounds") -> "Bounds":
        """What both allow; of all but the bounds, `other` wins."""
        return Bounds(
            _either(max, self.minimum, other.minimum),
            _either(min, self.maximum, other.maximum),
            other.multiple or self.multiple,
            other.choices if other.choices is not None else self.choices,
            other.constant or self.constant,
            other.default if other.default is not None else self.default,
            other.inside or self.inside,
        )

    def checker(self, name: str, model_id: str) -> Callable[[Any], None] | None:  # Any: the value of any parameter
        """A function that raises what is wrong with a value; None: nothing can be. Made once a model, called often.

        Errors: OutOfBounds(field, value, minimum, maximum), NotAllowed(field, value, model_id, allowed).
        """
        if self.choices is not None:
            return self._choice_checker(name, model_id, self.choices)
        if self.inside:
            return self._inner_checker(name, model_id)
        return None if self.minimum is self.maximum is None else self._size_checker(name, model_id)

    def _choice_checker(self, name: str, model_id: str, choices: tuple[str, ...]) -> Callable[[Any], None]:
        def check(value: Any) -> None:
            if value not in choices:
                raise NotAllowed(name, quoted(value), model_id, choices)

        return check

    def _inner_checker(self, name: str, model_id: str) -> Callable[[Any], None]:
        made = {inner: _checker(bounds, f"{name}/{inner}", model_id) for inner, bounds in self.inside.items()}
        checkers = tuple((inner, check) for inner, check in made.items() if check is not None)

        def check(value: Any) -> None:
            for inner, check_inner in checkers:
                if (found := getattr(value, inner)) is not None:
                    check_inner(found)

        return check

    def _size_checker(self, name: str, model_id: str) -> Callable[[Any], None]:
        low = 0 if self.minimum is None else self.minimum  # of a length
        high = float("inf") if self.maximum is None else self.maximum

        def check(value: Any) -> None:
            kind = type(value)
            if kind is int or kind is float:
                if not low <= value <= high:
                    raise OutOfBounds(field=name, value=value, minimum=low, maximum=high)
            elif value and high == 0:  # a text or a list
                raise NotAllowed(name, quoted(value), model_id)
            elif not low <= len(value) <= high:
                within(name + _MEASURED[kind], len(value), low, high)

        return check

    def applied_to(self, schema: Json) -> Json:
        """A JSON Schema with these bounds in it."""
        least, most = _KEYWORDS.get(schema.get("type", ""), ("minimum", "maximum"))
        said = {least: self.minimum, most: self.maximum, "multipleOf": self.multiple, "default": self.default}
        found = schema | {keyword: value for keyword, value in said.items() if value is not None}
        if self.constant is not None:
            found["const"] = self.constant
        if self.choices is not None:
            found["enum"] = list(self.choices)
        if self.inside:
            inner = schema["properties"]
            bounded = {name: each and each.applied_to(inner[name]) for name, each in self.inside.items()}
            found["properties"] = {name: each for name, each in (inner | bounded).items() if each is not None}
        return found


def _checker(bounds: Bounds | None, name: str, model_id: str) -> Callable[[Any], None] | None:  # Any: see `checker`
    return refusing(name, model_id) if bounds is None else bounds.checker(name, model_id)


def refusing(name: str, model_id: str) -> Callable[[Any], None]:  # Any: the value of any parameter
    """A function that refuses every value: the model does not have this. Errors: NotAllowed."""

    def refuse(value: Any) -> None:
        raise NotAllowed(name, quoted(value), model_id)

    return refuse


def within(name: str, value: float, minimum: float, maximum: float) -> None:
    """Errors: OutOfBounds(field, value, minimum, maximum)."""
    if not minimum <= value <= maximum:
        raise OutOfBounds(field=name, value=value, minimum=minimum, maximum=maximum)


def quoted(value: Any) -> str:  # Any: the value of any parameter
    """A value as an error shows it; of a list its first item, of a nested value its first field.

    >>> quoted("x" * 100) == "x" * 64, quoted(2.0)
    (True, '2')
    """
    if isinstance(value, tuple):
        return quoted(value[0])
    if hasattr(type(value), "model_fields"):
        return quoted(getattr(value, next(iter(type(value).model_fields))))
    return f"{value:g}" if isinstance(value, float) else str(value)[:SHOWN_CHARS]


def _either(choose: Any, one: float | None, other: float | None) -> float | None:  # Any: min or max
    if one is None or other is None:
        return other if one is None else one
    return float(choose(one, other)) if isinstance(one, float) or isinstance(other, float) else int(choose(one, other))
