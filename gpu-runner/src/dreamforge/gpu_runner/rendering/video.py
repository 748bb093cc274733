"""Frames as H.264 in MP4: the same bytes for the same frames on one machine. The child imports it for videos only."""

import io
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

#: One thread: with more of them the encoder divides frames otherwise. "medium" is its own default; `faststart` has a
#: player begin before it has the whole file; `bitexact` leaves version and time out of the file.
ENCODER, THREADS, PRESET = "libx264", 1, "medium"
CONTAINER_OPTIONS = {"movflags": "+faststart", "fflags": "+bitexact"}
#: What every player decodes.
PIXEL_FORMAT = "yuv420p"
#: Worst constant rate factor of H.264 with 8 bits (x264's range is 0 to 51).
RATE_FACTOR_MAX = 51
#: Longer side of the poster: that of the gateway's thumbnails.
POSTER_SIDE_PX, POSTER_QUALITY = 512, 85


def encode_h264(frames: bytes, size_px: tuple[int, int], *, frames_per_second: int, quality: int) -> bytes:
    """An MP4 file. `frames`: RGB bytes of one frame after another; `quality`: 0: smallest, 100: most exact.

    Both sides must be even, as four pixels share a colour.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        with av.open(path, "w", format="mp4", options=CONTAINER_OPTIONS) as container:
            stream = _stream(container, size_px, frames_per_second, quality)
            for number, pixels in enumerate(_each(frames, size_px)):
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, frames_per_second)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path.read_bytes()


def poster(frames: bytes, size_px: tuple[int, int]) -> bytes:
    """The first frame as a JPEG of at most POSTER_SIDE_PX a side."""
    image = Image.fromarray(next(_each(frames, size_px)))
    image.thumbnail((POSTER_SIDE_PX, POSTER_SIDE_PX))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=POSTER_QUALITY)
    return file.getvalue()


@cache
def versions() -> dict[str, str]:
    """Of what decides the bytes of a file."""
    codec = ".".join(map(str, av.library_versions["libavcodec"]))
    return {"av": version("av"), "libavcodec": codec, "pillow": version("pillow")}


def _stream(
    container: Any, size_px: tuple[int, int], frames_per_second: int, quality: int
) -> Any:  # Any: av has a class for each kind of stream, and no common type with these fields
    rate_factor = round(RATE_FACTOR_MAX * (1 - quality / 100))
    stream = container.add_stream(
        ENCODER, rate=frames_per_second, options={"crf": str(rate_factor), "preset": PRESET, "flags": "+bitexact"}
    )
    stream.width, stream.height = size_px
    stream.pix_fmt = PIXEL_FORMAT
    stream.codec_context.thread_count = THREADS
    return stream


def _each(frames: bytes, size_px: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
    """Shapes: (height, width, 3) each."""
    width_px, height_px = size_px
    yield from np.frombuffer(frames, np.uint8).reshape(-1, height_px, width_px, 3)
