"""Which steps of a pass lie between two shares of it. Pure."""


def window_steps(start: float, end: float, steps: int) -> tuple[int, ...]:
    """Of so many steps, counted from 0, step i where start <= i / steps and (i + 1) / steps <= end; may be none.

    >>> window_steps(0.3, 0.6, 20), window_steps(0.3, 0.6, 3)
    ((6, 7, 8, 9, 10, 11), ())
    """
    return tuple(step for step in range(steps) if start <= step / steps and (step + 1) / steps <= end)
