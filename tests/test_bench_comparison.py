"""The pure parts of `bench.compare`: what counts as slower, and the file of results."""

import math
import random
import sys
from itertools import product
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
sys.path.append(str(REPOSITORY))  # benchmarks belong to no distribution
from bench import results  # noqa: E402
from bench.comparison import ALARM_RATE, Pairs, p_value, ratio, rounds_needed, verdicts  # noqa: E402
from bench.results import Metric  # noqa: E402

sys.path.remove(str(REPOSITORY))

ROUNDS = 10


def noisy(factor: float, seed: int, noise: float = 0.04) -> Pairs:
    """Rounds of a machine whose speed changes threefold, on which the new side takes `factor` of the base's time."""
    chance = random.Random(seed)
    base = tuple(chance.uniform(10, 30) for _ in range(ROUNDS))
    new = tuple(value * factor * chance.lognormvariate(0, noise) for value in base)
    return Pairs(base, new, higher_is_better=False)


def test_a_loss_is_found_in_one_of_twelve_metrics_although_the_machine_changes_more() -> None:
    metrics = {f"equal {n}": noisy(1.0, n) for n in range(11)} | {"slow": noisy(1.15, 99)}
    judged = verdicts(metrics, tolerance=0.03)
    assert [name for name, verdict in judged.items() if verdict == "worse"] == ["slow"]
    assert verdicts({"rate": Pairs(metrics["slow"].new, metrics["slow"].base, True)}, 0.03) == {"rate": "worse"}
    assert verdicts({"fast": Pairs(metrics["slow"].new, metrics["slow"].base, False)}, 0.03) == {"fast": "better"}


def test_a_loss_below_the_tolerance_passes_however_certain_it_is() -> None:
    pairs = Pairs((100.0,) * ROUNDS, (98.0,) * ROUNDS, higher_is_better=True)
    assert p_value(pairs.gains) < ALARM_RATE
    assert verdicts({"rate": pairs}, tolerance=0.03) == {"rate": "equal"}
    assert verdicts({"rate": pairs}, tolerance=0.01) == {"rate": "worse"}


def test_equal_sides_are_found_unequal_no_more_often_than_promised() -> None:
    """Exact, over all signs that the rounds of two equal sides could have had."""
    sizes = (0.11, 0.02, 0.05, 0.07, 0.013, 0.03, 0.017)
    p_values = [p_value([s * size for s, size in zip(signs, sizes, strict=True)])
                for signs in product((-1, 1), repeat=len(sizes))]  # fmt: skip
    for rate in (ALARM_RATE, ALARM_RATE / 5):
        assert sum(p <= rate for p in p_values) / len(p_values) <= rate


@pytest.mark.parametrize("metrics", [1, 12, 15])
def test_with_fewer_rounds_than_needed_nothing_is_ever_worse(metrics: int) -> None:
    rounds = rounds_needed(metrics)
    for count, verdict in ((rounds, "worse"), (rounds - 1, "equal")):
        slow = Pairs((1.0,) * count, (2.0,) * count, higher_is_better=False)
        same = Pairs((1.0,) * count, (1.0,) * count, higher_is_better=False)
        others = {str(n): same for n in range(metrics - 1)}
        assert verdicts({**others, "slow": slow}, 0.03)["slow"] == verdict


def test_the_interval_holds_the_mean_and_a_value_of_zero_is_an_error() -> None:
    found = ratio((10.0, 20.0, 30.0), (11.0, 23.0, 32.0))
    assert found.low < found.mean < found.high
    assert math.isclose(found.mean, (1.1 * 1.15 * 32 / 30) ** (1 / 3), rel_tol=1e-9)
    with pytest.raises(ValueError, match="above zero"):
        ratio((0.0,), (1.0,))


def test_results_are_read_as_they_were_written_with_what_they_were_measured_on(tmp_path: Path) -> None:
    rounds = [[Metric.rate("rate", value, "jobs/s"), Metric.milliseconds("p50", value / 1e3)] for value in (3.0, 4.0)]
    written = {"pipeline": results.joined("python -m bench.pipeline", rounds)}
    results.write(tmp_path / "out" / "r.json", written)
    assert results.read(tmp_path / "out" / "r.json") == written
    found = results.provenance()
    assert len(found["commit"]) == 40
    assert found["machine"]["cores"] >= 1
    assert found["versions"]["nats-py"]
    (tmp_path / "old.json").write_text('{"format": 0}')
    with pytest.raises(ValueError, match="format 0, not 1"):
        results.read(tmp_path / "old.json")


def test_rounds_with_different_metrics_are_an_error() -> None:
    with pytest.raises(ValueError, match="one value of a, b"):
        results.joined("x", [[Metric.rate("a", 1, "jobs/s")], [Metric.rate("b", 1, "jobs/s"), *[]]])
