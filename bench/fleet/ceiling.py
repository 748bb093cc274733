"""What the switch can carry at most: round trips and bytes a second of one TCP connection from host a to host b.

Run by `python -m bench.fleet --ceiling`; the peers are this module in two namespaces.
"""

import asyncio
import socket
import sys
import time

from bench.fleet.network import ADDRESSES, Network, inside

PORT = 7000
ROUND_TRIPS = 2_000
BYTES = 200 * 2**20
CHUNK_BYTES = 2**20


async def print_ceiling(network: Network) -> None:
    """Two lines, and the frames that it took."""
    serving = await asyncio.create_subprocess_exec(*_peer("b", "serve"), stdout=asyncio.subprocess.PIPE)
    assert serving.stdout is not None
    await serving.stdout.readline()
    before = network.frames
    asking = await asyncio.create_subprocess_exec(*_peer("a", "ask"))
    await asking.wait()
    await serving.wait()
    await network.change(network.rules)
    print(f"{network.frames['forwarded'] - before['forwarded']} frames through the switch")


def _peer(host: str, role: str) -> tuple[str, ...]:
    return inside(host, sys.executable, "-m", "bench.fleet.ceiling", role)


def _serve() -> None:
    with socket.create_server((ADDRESSES["b"], PORT)) as listening:
        print("ready", flush=True)
        connection, _ = listening.accept()
        with connection:
            for _ in range(ROUND_TRIPS):
                connection.sendall(connection.recv(1))
            left = BYTES
            while left:
                left -= len(connection.recv(CHUNK_BYTES))
            connection.sendall(b"!")


def _ask() -> None:
    with socket.create_connection((ADDRESSES["b"], PORT)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        began = time.monotonic()
        for _ in range(ROUND_TRIPS):
            connection.sendall(b".")
            connection.recv(1)
        took = time.monotonic() - began
        print(f"{ROUND_TRIPS / took:,.0f} round trips a second, {took / ROUND_TRIPS * 1e6:.0f} us each")
        began = time.monotonic()
        for _ in range(BYTES // CHUNK_BYTES):
            connection.sendall(bytes(CHUNK_BYTES))
        connection.recv(1)
        print(f"{BYTES / (time.monotonic() - began) / 1e6:,.0f} MB a second")


if __name__ == "__main__":
    _serve() if sys.argv[1] == "serve" else _ask()
