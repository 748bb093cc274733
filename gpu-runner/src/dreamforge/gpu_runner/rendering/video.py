"""Frames as H.264 in MP4: the same bytes for the same frames on one machine. The child imports it for videos only."""

import ctypes
import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
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
#: ITU-R BT.709 with the range of television, in fixed point: luma from 16 to 235, chroma from 16 to 240 around 128.
BITS, HALF, LUMA_BLACK, CHROMA_GREY = 16, 1 << 15, 16, 128
LUMA = np.array([11966, 40254, 4064], np.int32)
CHROMA = np.array([[-6596, -22189, 28785], [28785, -26145, -2640]], np.int32)
#: What says so in the file (ITU-T H.273).
BT709, TELEVISION = 1, 1
#: Of `mallopt` (malloc.h of glibc), and any byte but 0, which switches it off.
M_PERTURB, FILL_BYTE = -6, 0xA5
#: Longer side of the poster: that of the gateway's thumbnails.
POSTER_SIDE_PX, POSTER_QUALITY = 512, 85


def encode_h264(frames: bytes, size_px: tuple[int, int], *, frames_per_second: int, quality: int) -> bytes:
    """An MP4 file. `frames`: RGB bytes of one frame after another; `quality`: 0: smallest, 100: most exact.

    Both sides must be even, as four pixels share a colour.
    """
    with tempfile.TemporaryDirectory() as folder, _filled_memory():
        path = Path(folder) / "video.mp4"
        with av.open(path, "w", format="mp4", options=CONTAINER_OPTIONS) as container:
            stream = _stream(container, size_px, frames_per_second, quality)
            for number, pixels in enumerate(_each(frames, size_px)):
                frame = av.VideoFrame.from_ndarray(yuv_planes(pixels), format=PIXEL_FORMAT)
                frame.pts, frame.time_base = number, Fraction(1, frames_per_second)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path.read_bytes()


def yuv_planes(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A frame in the colours of BT.709, each of them shared by four pixels.

    By integers, and not by ffmpeg, whose conversion depends on the alignment of memory.
    Shapes: pixels (height, width, 3); the planes below each other, (3 / 2 * height, width).
    """
    height_px, width_px, _ = pixels.shape
    wide = pixels.astype(np.int32)
    luma = ((wide @ LUMA + HALF) >> BITS) + LUMA_BLACK
    four = wide.reshape(height_px // 2, 2, width_px // 2, 2, 3).sum((1, 3), dtype=np.int32)
    chroma = (((four @ CHROMA.T) + 4 * HALF) >> (BITS + 2)) + CHROMA_GREY
    planes = luma.ravel(), chroma[..., 0].ravel(), chroma[..., 1].ravel()
    return np.concatenate(planes).astype(np.uint8).reshape(-1, width_px)


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
    context = stream.codec_context
    context.color_primaries = context.color_trc = context.colorspace = BT709
    context.color_range = TELEVISION
    stream.width, stream.height = size_px
    stream.pix_fmt = PIXEL_FORMAT
    context.thread_count = THREADS
    return stream


@contextmanager
def _filled_memory() -> Iterator[None]:
    """Have new memory be filled with one byte: the encoder reads some that it never wrote.

    Measured: without it 8 of 3,000 equal films differed in some bytes, with it none of 2,500. Only glibc can do so.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        yield
        return
    mallopt(M_PERTURB, FILL_BYTE)
    try:
        yield
    finally:
        mallopt(M_PERTURB, 0)


def _each(frames: bytes, size_px: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
    """Shapes: (height, width, 3) each."""
    width_px, height_px = size_px
    yield from np.frombuffer(frames, np.uint8).reshape(-1, height_px, width_px, 3)
