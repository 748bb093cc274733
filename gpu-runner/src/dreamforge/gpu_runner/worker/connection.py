"""The child's end of the socket: what it was asked, and what it answers.

A reader thread takes frames while the main thread renders, so a Cancel is known within one step. When the
supervisor's end closes, however it died, the child leaves at once: it can never be orphaned.
"""

import os
import queue
import socket
import threading
from collections.abc import Callable

from loguru import logger

from dreamforge.gpu_runner.protocol.frames import FrameDecoder, FrameError, encode_frame
from dreamforge.gpu_runner.protocol.messages import (
    Cancel,
    FromChild,
    Load,
    Render,
    Stop,
    ToChild,
    to_child_from_frame,
    to_frame,
)
from dreamforge.gpu_runner.protocol.render_task import RenderTask

READ_BYTES = 1 << 16
#: Exit statuses, from sysexits.h: the peer broke the protocol; nothing else ends a child but Stop.
EXIT_OK, EXIT_PROTOCOL = 0, 76


class Outbox:
    """Writes frames; several threads may, and a frame is never torn.

    `send` blocks while the supervisor does not read: then images wait, within the bound of `finishing`, and the render.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lock = threading.Lock()

    def send(self, message: FromChild) -> None:
        """Write a frame. Errors: OSError once the supervisor is gone."""
        data = encode_frame(to_frame(message))
        with self._lock:
            self._sock.sendall(data)


class Inbox:
    """What is still to be done, in order, and which of it has been cancelled meanwhile."""

    def __init__(self) -> None:
        self._work: queue.Queue[Load | Render | Stop] = queue.Queue()
        self._cancelled: dict[str, threading.Event] = {}
        self._lock = threading.Lock()

    def deliver(self, message: ToChild) -> None:
        """Take one message from the reader thread. Cancelling an unknown task changes nothing."""
        if isinstance(message, Cancel):
            with self._lock:
                event = self._cancelled.get(message.task_id)
            if event is not None:
                event.set()
            return
        if isinstance(message, Render):
            with self._lock:
                for task in message.tasks:
                    self._cancelled.setdefault(task.task_id, threading.Event())
        self._work.put(message)

    def next(self) -> Load | Render | Stop:
        """The next thing to do; waits for it. Stop stays at the end, so that every slot sees it."""
        message = self._work.get()
        if isinstance(message, Stop):
            self._work.put(message)
        return message

    def upcoming(self) -> RenderTask | None:
        """The task that `next` gives next, if it is there already."""
        with self._work.mutex:
            first = self._work.queue[0] if self._work.queue else None
        return first.tasks[0] if isinstance(first, Render) else None

    def is_cancelled(self, task_id: str) -> bool:
        """Whether a Cancel came for this task."""
        event = self._cancelled.get(task_id)
        return event is not None and event.is_set()

    def forget(self, *task_ids: str) -> None:
        """These tasks are over; a Cancel that comes later is for nothing."""
        with self._lock:
            for task_id in task_ids:
                self._cancelled.pop(task_id, None)


def start_reader(sock: socket.socket, inbox: Inbox, leave: Callable[[int], object] = os._exit) -> threading.Thread:
    """Read frames into `inbox` until the other side closes, then `leave` the process at once.

    os._exit and not sys.exit: a thread cannot end the main one, which may be minutes deep in a kernel, and
    there is nothing to save here. Every fact is written by the supervisor.
    """
    thread = threading.Thread(target=_read, args=(sock, inbox, leave), name="reader", daemon=True)
    thread.start()
    return thread


def _read(sock: socket.socket, inbox: Inbox, leave: Callable[[int], object]) -> None:
    decoder = FrameDecoder()
    try:
        while chunk := sock.recv(READ_BYTES):
            for frame in decoder.feed(chunk):
                inbox.deliver(to_child_from_frame(frame))
        decoder.finish()
    except OSError:
        leave(EXIT_OK)  # the socket is gone, and with it the reader of any message
    except FrameError as error:
        logger.critical("the supervisor broke the protocol: {}", error)
        leave(EXIT_PROTOCOL)
    else:
        leave(EXIT_OK)
