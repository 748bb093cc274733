"""How soon the gateway answers `/healthz` while clients upload images that are made to keep a decoder busy.

Rounds without and with the uploads take turns in one run. The times are measured in a process of its own, for a client
that sends 16 MiB would see its own delays, too.

Usage: python -m bench.hostile_uploads [--rounds 4] [--seconds 10] [--clients 8] [--rate 100]
"""

import argparse
import asyncio
import io
import json
import os
import random
import struct
import sys
import tempfile
import zlib
from collections import Counter
from itertools import count
from pathlib import Path

from bench.bench_stack import BenchStack, submit_until_accepted
from bench.http_connection import HttpConnection
from bench.timing import clock, percentile
from PIL import Image

from dreamforge.runtime.embedded import EmbeddedStack

PROMISED_SECONDS = 0.1  # issue 11: p99 while hostile uploads run
UPLOAD_BYTES = 16 * 1024**2
SIDE_PX = 4096
NAMES = ("empty markers", "scans of a large JPEG", "90 more scans", "empty chunks", "bomb")


def png_chunk(kind: bytes, data: bytes = b"") -> bytes:
    """One chunk with its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def progressive(side_px: int) -> bytes:
    """A progressive JPEG of noise, so that each of its scans has something to decode."""
    noise, out = random.Random(1).randbytes((side_px // 16) ** 2), io.BytesIO()
    small = Image.frombytes("L", (side_px // 16, side_px // 16), noise)
    small.resize((side_px, side_px)).save(out, "JPEG", progressive=True, quality=50)
    return out.getvalue()


def hostile_images() -> dict[str, bytes]:
    """One of each kind that cost seconds when it was decoded in the gateway."""
    large, small = progressive(SIDE_PX), progressive(512)
    scan = small[small.rindex(b"\xff\xda") : -2]
    head = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBBBBB", SIDE_PX, SIDE_PX, 8, 6, 0, 0, 0))
    pixels = png_chunk(b"IDAT", zlib.compress(bytes(SIDE_PX * (SIDE_PX * 4 + 1)), 9)) + png_chunk(b"IEND")
    empty = png_chunk(b"tEXt")
    chunks = empty * ((UPLOAD_BYTES - len(head) - len(pixels) - 1024) // len(empty))
    images = (
        b"\xff\xd8\xff\xda\x00\x02" + b"\xff" * 40_000,
        large,
        small[:-2] + scan * 90 + small[-2:],
        head + chunks + pixels,
        head + pixels,
    )
    return dict(zip(NAMES, images, strict=True))


async def probe(url: str, seconds: float, rate: float) -> list[float]:
    """Seconds until each answer, sent at a steady rate over one connection; a late one does not move the next."""
    connection, began, found = await HttpConnection.open(url), clock(), []
    for number in range(int(seconds * rate)):
        due = began + number / rate
        await asyncio.sleep(max(0.0, due - clock()))
        assert (await connection.get("/healthz")).status == 200
        found.append(clock() - due)
    await connection.close()
    return found


async def probed(url: str, arguments: argparse.Namespace) -> list[float]:
    """The same, in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.hostile_uploads", "--probe", url),
        *("--seconds", str(arguments.seconds), "--rate", str(arguments.rate)),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    found: list[float] = json.loads(output)
    return found


class HostileClients:
    """Clients that upload one image after the other, each beginning with another kind."""

    def __init__(self, url: str) -> None:
        self.answers: Counter[tuple[str, int]] = Counter()
        self._url, self._images, self._numbers = url, hostile_images(), count()

    async def run(self) -> None:
        """Until it is cancelled."""
        connection = await HttpConnection.open(self._url)
        while True:
            name = NAMES[next(self._numbers) % len(NAMES)]
            data = self._images[name]
            kind = "image/png" if data.startswith(b"\x89") else "image/jpeg"
            answer = await connection.post_bytes("/v1/uploads", data, kind)
            self.answers[name, answer.status] += 1

    async def around(self, url: str, arguments: argparse.Namespace) -> list[float]:
        """What a probe finds while they run."""
        tasks = [asyncio.create_task(self.run()) for _ in range(arguments.clients)]
        found = await probed(url, arguments)
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        if failed := [each for each in ended if not isinstance(each, asyncio.CancelledError)]:
            raise SystemExit(f"a client ended: {failed[0]!r}")
        return found


def said(name: str, seconds: list[float]) -> str:
    """A line of the result."""
    p50, p99, most = (percentile(seconds, share) * 1e3 for share in (0.5, 0.99, 1.0))
    return f"{name}: p50 {p50:6.1f} ms, p99 {p99:6.1f} ms, longest {most:6.1f} ms ({len(seconds)} requests)"


async def measure(url: str, arguments: argparse.Namespace) -> None:
    """In turns, so that what else the machine does meets both."""
    clients = HostileClients(url)
    found: dict[str, list[float]] = {"without uploads": [], "with uploads   ": []}
    quiet, loaded = found.values()
    for _ in range(arguments.rounds):
        quiet += await probed(url, arguments)
        loaded += await clients.around(url, arguments)
    for name, seconds in found.items():
        print(said(name, seconds))
    for (name, status), times in sorted(clients.answers.items()):
        print(f"  {name}: {times} times {status}")
    share = sum(each > PROMISED_SECONDS for each in loaded) / len(loaded)
    print(f"{100 * share:.2f} % of the answers took more than {1e3 * PROMISED_SECONDS:g} ms (at most 1 % may)")


async def main(arguments: argparse.Namespace) -> None:
    """Start servers and a gateway with all that it needs, measure, stop them."""
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} before the run")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with EmbeddedStack(folder / "servers") as stack:
            system = BenchStack(stack, folder, FORGE_RUNNER_RENDERER="synthetic")
            try:
                for kind in ("scheduler", "projector", "gpu-runner"):
                    system.add(kind, kind)
                url = f"http://{system.add('gateway', 'gateway').spec.address}"
                await submit_until_accepted(url, steps=1)
                await measure(url, arguments)
            finally:
                await system.stop()


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10.0, help="of one round")
    parser.add_argument("--clients", type=int, default=8, help="that upload at once")
    parser.add_argument("--rate", type=float, default=100.0, help="probes a second")
    parser.add_argument("--probe", metavar="URL", help="only measure this gateway, and print the seconds as JSON")
    return parser.parse_args(words)


if __name__ == "__main__":
    given = parse()
    if given.probe:
        print(json.dumps(asyncio.run(probe(given.probe, given.seconds, given.rate))))
    else:
        asyncio.run(main(given))
