"""How long something takes, as people read it."""


def readable_seconds(seconds: float) -> str:
    """Two digits of the largest unit that fits.

    >>> readable_seconds(0.42), readable_seconds(41.7), readable_seconds(95.0), readable_seconds(7300.0)
    ('0.4 s', '42 s', '1 min 35 s', '2 h 1 min')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes < 10 else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
