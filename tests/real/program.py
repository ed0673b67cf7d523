"""The program under test, and what every test on loopback needs."""

import os
import socket
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MIDGE = os.environ.get("MIDGE", str(ROOT / "target/release/midge"))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(what, condition, seconds=20):
    """Waits for something that is true, and returns it."""
    deadline = time.monotonic() + seconds
    while True:
        if found := condition():
            return found
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)
