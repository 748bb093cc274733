"""A rate of requests: as many at once as there are in a second, then as fast as the rate. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TokenBucket:
    """`tokens` that were left `at` a time of the monotonic clock, in seconds."""

    tokens: float
    at: float


def take(bucket: TokenBucket | None, rate: float, now: float) -> tuple[TokenBucket, float]:
    """Take one token at `rate` tokens a second; the bucket after it, and how many seconds too early it was asked for.

    None is a full bucket. Where it was too early, nothing is taken.

    >>> bucket, early = take(None, 2.0, 0.0)
    >>> bucket.tokens, early
    (1.0, 0.0)
    """
    size = max(1.0, rate)
    filled = size if bucket is None else min(size, bucket.tokens + max(0.0, now - bucket.at) * rate)
    if filled >= 1.0:
        return TokenBucket(filled - 1.0, now), 0.0
    return TokenBucket(filled, now), (1.0 - filled) / rate
