"""What happens to a frame between two ports of the switch: cut, delayed or lost. Pure: chance is an argument."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Direction = tuple[str, str]


@dataclass(frozen=True, slots=True)
class LinkRules:
    """`cuts`: directions (source, target) in which nothing arrives. Delay and loss are those of every direction.

    A port sends to itself without the switch, so nothing here concerns processes of one host.
    """

    cuts: frozenset[Direction] = frozenset()
    delay_seconds: float = 0.0
    loss: float = 0.0

    def delay_of(self, source: str, target: str, draw: float) -> float | None:
        """Seconds until a frame arrives; None: it does not. `draw` is a random number of [0, 1).

        >>> LinkRules(delay_seconds=0.1, loss=0.02).delay_of("a", "b", 0.5)
        0.1
        >>> LinkRules(loss=0.02).delay_of("a", "b", 0.01) is None
        True
        >>> one_way = LinkRules(frozenset({("a", "b")}))
        >>> one_way.delay_of("a", "b", 0.5), one_way.delay_of("b", "a", 0.5)
        (None, 0.0)
        """
        if (source, target) in self.cuts or draw < self.loss:
            return None
        return self.delay_seconds

    def document(self) -> dict[str, object]:
        """As JSON, for the process of the switch.

        >>> LinkRules.of(LinkRules(frozenset({("a", "b")}), 0.1).document()).delay_seconds
        0.1
        """
        return {"cuts": sorted(self.cuts), "delay_seconds": self.delay_seconds, "loss": self.loss}

    @classmethod
    def of(cls, document: Mapping[str, object]) -> "LinkRules":
        """From what `document` made."""
        cuts = document["cuts"]
        assert isinstance(cuts, list)
        return cls(
            frozenset((str(source), str(target)) for source, target in cuts),
            float(str(document["delay_seconds"])),
            float(str(document["loss"])),
        )


OPEN = LinkRules()


def isolation(host: str, ports: Iterable[str]) -> frozenset[Direction]:
    """Cuts that separate a host from every other port.

    >>> sorted(isolation("a", ["a", "b", "c"]))
    [('a', 'b'), ('a', 'c'), ('b', 'a'), ('c', 'a')]
    """
    return frozenset(cut for port in ports if port != host for cut in ((host, port), (port, host)))


def separation(one: str, other: str) -> frozenset[Direction]:
    """Cuts between two hosts that still reach all others.

    >>> sorted(separation("a", "b"))
    [('a', 'b'), ('b', 'a')]
    """
    return frozenset({(one, other), (other, one)})
