"""A forecast in a sentence or two."""

from dreamforge.cli.client.gateway import Json
from dreamforge.contracts.readable_seconds import readable_seconds

# What a person calls now.
SOON_SECONDS = 0.5


def forecast_text(forecast: Json) -> str:
    """Where and when, as a person would say it.

    >>> seconds = {"p50": 40.0, "p90": 61.0}
    >>> forecast_text({"runner_id": "gpu-1", "starts_in_seconds": None, "ends_in_seconds": seconds, "load_seconds": 0})
    'ends on gpu-1 in about 40 s (at most 1 min 1 s, nine times of ten)'
    """
    starts, ends = forecast["starts_in_seconds"], forecast["ends_in_seconds"]
    most = f"(at most {readable_seconds(ends['p90'])}, nine times of ten)"
    about = f"in about {readable_seconds(ends['p50'])} {most}"
    if starts is None:
        return f"ends on {forecast['runner_id']} {about}"
    load_seconds = forecast["load_seconds"]
    load = f", {readable_seconds(load_seconds)} of them to load the model" if load_seconds else ""
    tier = f" in tier {forecast['tier']}" if forecast["tier"] else ""
    when = f"in about {readable_seconds(starts['p50'])}" if starts["p50"] >= SOON_SECONDS else "now"
    text = f"starts on {forecast['runner_id']}{tier} {when}{load}, ends {about}"
    if forecast["ahead"]:
        text += f"; {forecast['ahead']} job{'s' if forecast['ahead'] > 1 else ''} before it"
    if forecast["idle_runner_id"]:
        idle = f"{forecast['idle_runner_id']} could start now and would end in"
        text += f"; {idle} {readable_seconds(forecast['idle_ends_in_seconds'])}"
    return text
