"""What a long copy says while it runs."""

from collections.abc import Callable
from dataclasses import dataclass

OnProgress = Callable[[str], object]


@dataclass(slots=True)
class Counter:
    """Says how many objects were looked at."""

    stage: str
    say: OnProgress
    number: int = 0

    def one_more(self) -> None:
        """Count one."""
        self.number += 1
        self.say(f"{self.stage}: {self.number}")
