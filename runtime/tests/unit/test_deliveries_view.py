"""What is kept of deliveries is bounded, however many webhooks come and go."""

from typing import cast

from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.views import GONE_MAX, DeliveriesView


def test_deliveries_of_webhooks_that_are_gone_are_forgotten_the_oldest_first() -> None:
    live = {"first", "last"}
    view = DeliveriesView(cast(Bus, None), sends=live.__contains__)
    first = view.of("first")
    for number in range(5 * GONE_MAX):
        view.of(str(number))
    view.of("last")
    assert len(view.deliveries) <= 2 * GONE_MAX + 2
    assert view.of("first") is first
    assert str(5 * GONE_MAX - 1) in view.deliveries
    assert "0" not in view.deliveries
