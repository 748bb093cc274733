"""Every second of a device counts once, for what it did then."""

from collections import Counter

from dreamforge.gpu_runner.supervisor.device_activity import DeviceActivity


class Seconds:
    def __init__(self) -> None:
        self.now = 100.0
        self.counted: Counter[str] = Counter()

    def count(self, activity: str, seconds: float) -> None:
        self.counted[activity] += seconds


def test_each_second_counts_once_and_a_load_before_a_render() -> None:
    seconds = Seconds()
    activity = DeviceActivity(count=seconds.count, now=lambda: seconds.now)
    assert seconds.counted == {"idle": 0, "render": 0, "load": 0}
    seconds.now += 5  # idle
    activity.given("a", "b")
    seconds.now += 2  # renders
    activity.loading(True)
    seconds.now += 3  # loads, with tasks that wait for it
    activity.loading(False)
    seconds.now += 4  # renders
    activity.tell()
    activity.ended("a")
    seconds.now += 1  # renders: b is there
    activity.ended("b")
    activity.ended("b")
    seconds.now += 6  # idle
    activity.given("c")
    seconds.now += 7
    activity.gone()
    seconds.now += 8
    activity.tell()
    assert seconds.counted == {"idle": 5 + 6 + 8, "render": 2 + 4 + 1 + 7, "load": 3}
    assert sum(seconds.counted.values()) == seconds.now - 100
