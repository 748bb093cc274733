"""Stop signals: the first one asks a process to finish, a second one ends it at once."""

import asyncio
import os
import signal
from collections.abc import Callable

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def stop_on_signals(
    *numbers: signal.Signals,
    on_first: Callable[[signal.Signals], None] = lambda _: None,
    exit_status: int | None = None,
) -> asyncio.Event:
    """An event that the first of these signals sets; `on_first` is called with it.

    A second signal ends the process with `exit_status`, or as shells report it: 128 + the signal's number.
    """
    stop = asyncio.Event()

    def on_signal(number: signal.Signals) -> None:
        if stop.is_set():
            os._exit(128 + number if exit_status is None else exit_status)
        on_first(number)
        stop.set()

    for number in numbers:
        asyncio.get_running_loop().add_signal_handler(number, on_signal, number)
    return stop
