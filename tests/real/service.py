"""A site as a service: what it tells systemd, and what `midge top` shows of it."""

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import runner
from program import MIDGE, free_port




def told(notices, seconds=15):
    """The next notice that is no sign of life."""
    notices.settimeout(seconds)
    while True:
        fields = dict(line.split("=", 1) for line in notices.recv(4096).decode().split("\n") if line)
        if fields != {"WATCHDOG": "1"}:
            return fields


def start(workdir, **env):
    port = free_port()
    with (workdir / "site.log").open("a") as log:
        process = subprocess.Popen([MIDGE, "run", "-p", str(port), "--data", str(workdir / "data")], stderr=log,
                                   stdout=log, env={**os.environ, **env})
    return port, process


def systemd_is_told(workdir):
    notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notices.bind(str(workdir / "notify"))
    port, process = start(workdir, NOTIFY_SOCKET=str(workdir / "notify"), WATCHDOG_USEC="400000")
    assert told(notices) == {"READY": "1"}
    # It is no promise: who is told may connect.
    socket.create_connection(("127.0.0.1", port)).close()
    signs = [notices.recv(64) for _ in range(5)]
    assert set(signs) == {b"WATCHDOG=1\n"}, signs
    before = time.monotonic_ns() // 1000
    process.send_signal(signal.SIGHUP)
    reloading = told(notices)
    assert reloading["RELOADING"] == "1" and before <= int(reloading["MONOTONIC_USEC"]), reloading
    assert told(notices) == {"READY": "1"}
    process.terminate()
    assert told(notices) == {"STOPPING": "1"}
    assert process.wait(20) == 0


def a_site_that_hangs_gives_no_signs(workdir):
    """A stopped process says nothing, so systemd starts it anew."""
    notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notices.bind(str(workdir / "notify"))
    _, process = start(workdir, NOTIFY_SOCKET=str(workdir / "notify"), WATCHDOG_USEC="200000")
    assert told(notices) == {"READY": "1"}
    # Only the driver's thread: the one that gives signs of life goes on.
    driver = next(task for task in Path(f"/proc/{process.pid}/task").iterdir()
                  if (task / "comm").read_text().startswith("midge-driver"))
    tracer = subprocess.Popen(["strace", "-p", driver.name, "-o", "/dev/null", "-e", "inject=epoll_wait:delay_exit=5s"],
                              stderr=subprocess.DEVNULL)
    time.sleep(2)
    notices.setblocking(False)
    try:
        while notices.recv(64):
            pass
    except BlockingIOError:
        pass
    notices.settimeout(1)
    try:
        sign = notices.recv(64)
        raise AssertionError(f"{sign} of a site that hangs")
    except TimeoutError:
        pass
    finally:
        tracer.terminate()
        tracer.wait()
        process.kill()
        process.wait()


def without_systemd_nobody_is_told(workdir):
    port, process = start(workdir)
    deadline = time.monotonic() + 15
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            assert time.monotonic() < deadline, "the site does not start"
            time.sleep(0.05)
    subprocess.run(["mosquitto_pub", "-p", str(port), "-t", "a", "-m", "b", "-r"], check=True, timeout=10)
    line = subprocess.run([MIDGE, "top", "-n", "1", "-d", "0.2", "--data", str(workdir / "data")], capture_output=True,
                          text=True, timeout=20, check=True).stdout
    assert line.startswith("0 clients, ") and line.endswith(" dropped/s\n"), line
    lines = subprocess.run([MIDGE, "top", "-n", "2", "-d", "0.2", "--json", "--data", str(workdir / "data")],
                           capture_output=True, text=True, timeout=20, check=True).stdout.splitlines()
    assert [set(json.loads(line)) >= {"messages_in", "dropped"} for line in lines] == [True, True], lines
    process.terminate()
    assert process.wait(20) == 0
    assert "service manager" not in (workdir / "site.log").read_text()


runner.run([systemd_is_told, a_site_that_hangs_gives_no_signs, without_systemd_nobody_is_told])
