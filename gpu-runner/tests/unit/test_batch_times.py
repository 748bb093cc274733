"""Batches grow as long as that saves time and fits into memory."""

from hypothesis import given
from hypothesis import strategies as st

from dreamforge.gpu_runner.worker.batch_times import BatchTimes, batch_bound

runs = st.dictionaries(
    st.sampled_from([1, 2, 3, 4, 8, 16]), st.lists(st.floats(0.001, 10), min_size=1, max_size=4), max_size=6
)


def learnt(seconds_an_image: dict[int, float], most: int) -> int:
    """The bound after as many runs at each bound as it takes to stay there."""
    times = BatchTimes()
    for _ in range(20):
        size = times.bound("s", most)
        times.ran("s", size, seconds_an_image[size])
    return times.bound("s", most)


@given(runs, st.integers(1, 64))
def test_the_bound_is_a_power_of_two_up_to_what_fits(seconds: dict[int, list[float]], most: int) -> None:
    bound = batch_bound(seconds, most)
    assert bound & (bound - 1) == 0
    assert 1 <= bound <= most


def test_it_grows_while_each_doubling_saves_time_and_stops_where_it_does_not() -> None:
    small = {1: 1.0, 2: 0.6, 4: 0.45, 8: 0.38, 16: 0.3}
    assert learnt(small, 16) == 16
    assert learnt(small, 5) == 4
    assert learnt({2: 0.6, 4: 0.45, 8: 0.44}, 16) == 4


def test_where_two_save_nothing_images_are_rendered_alone() -> None:
    times = BatchTimes()
    for size in (1, 1, 2, 2):
        times.ran("s", size, 1.0)
    assert times.bound("s", 16) == 1


def test_a_first_run_at_a_size_decides_nothing() -> None:
    assert batch_bound({2: [1.0, 1.0], 4: [9.0]}, 16) == 4


def test_a_bound_is_tried_again_after_a_while() -> None:
    times, slow, sizes = BatchTimes(), True, []
    for number in range(300):
        sizes.append(size := times.bound("s", 16))
        slow = slow and number < 10
        times.ran("s", size, 1.0 if slow else 1.0 / size)
    assert set(sizes[6:30]) == {2}, "four were no faster"
    assert sizes[-1] == 16, "and are now"


def test_what_an_earlier_process_learnt_is_where_this_one_goes_on() -> None:
    times = BatchTimes()
    times.recall("s", {2: 0.6, 4: 0.45, 8: 0.44})
    assert times.bound("s", 16) == 4
    assert times.bound("s", 2) == 2, "in less memory"
    times.recall("s", {2: 0.1})
    assert times.fastest("s") == {2: 0.6, 4: 0.45, 8: 0.44}, "what is seen now counts"


def test_what_did_not_fit_is_not_tried_again() -> None:
    times = BatchTimes()
    times.did_not_fit("s", 8)
    for size in (2, 2, 4, 4):
        times.ran("s", size, 1.0 / size)
    assert times.bound("s", 16) == 4
    assert times.bound("another", 16) == 2
