"""Ring 4: midge in mosquitto's place: exit codes, signals, root that is left, Debian's files.

    python3 tests/real/swap.py [NAME…]     all tests, or those named

Where both are asked, the installed mosquitto says what is right. Needs root and Debian's mosquitto. Only loopback.
"""

import json
import os
import pwd
import signal
import socket
import subprocess
import time
from pathlib import Path

from program import MIDGE, free_port, until
from runner import run

EXAMPLE = Path("/usr/share/doc/mosquitto/examples/mosquitto.conf")
PATIENCE = 20




class Broker:
    """Either of them, by one mosquitto.conf."""

    def __init__(self, program, folder, lines, port=None):
        self.port, self.log = port or free_port(), folder / f"{program}.log"
        conf = folder / f"{program}.conf"
        conf.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\n" + "\n".join(lines) + "\n")
        words = [MIDGE, "-c", conf, "--data", folder / "data"] if program == "midge" else ["mosquitto", "-c", conf]
        self.process = subprocess.Popen(words, stderr=open(self.log, "w"))
        until(f"{program} does not start", lambda: self.process.poll() is not None or self.is_open())

    def is_open(self):
        return socket.socket().connect_ex(("127.0.0.1", self.port)) == 0

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


def outcome(program, folder, text):
    """How it ends with this configuration; `running` if it does not."""
    conf = folder / "try.conf"
    conf.write_text(text)
    words = [MIDGE, "-c", conf, "--data", folder / "try-data"] if program == "midge" else ["mosquitto", "-c", conf]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            _, said = process.communicate(timeout=1.5)
            return process.returncode, said
        except subprocess.TimeoutExpired:
            process.terminate()
            return "running", process.communicate()[1]


def exit_codes_are_mosquittos(folder):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = free_port()
        texts = [
            "bogus 1",
            "listener",
            "allow_anonymous maybe",
            "password_file /nonexistent",
            "acl_file /nonexistent",
            "include_dir /nonexistent",
            "log_dest bogus",
            "max_inflight_messages 70000",
            "pid_file /nonexistent/x",
            f"listener {taken.getsockname()[1]} 127.0.0.1\nallow_anonymous true",
            f"listener {port} 127.0.0.1\nallow_anonymous true\ncertfile /x\nkeyfile /y",
            f"listener {port} 127.0.0.1\nallow_anonymous true\nretry_interval 5",
            f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 7",
        ]
        for text in texts:
            # Both would listen on 1883 without a listener, which may be taken.
            if "listener" not in text:
                text = f"listener {port} 127.0.0.1\nallow_anonymous true\n{text}"
            text = f"user root\n{text}\n"
            theirs, ours = outcome("mosquitto", folder, text), outcome("midge", folder, text)
            assert ours[0] == theirs[0], (text, ours, theirs)
            assert ours[0] == "running" or ours[1].strip(), (text, "without a word")
    for program in ([MIDGE, "--data", folder / "d"], ["mosquitto"]):
        assert subprocess.run([*program, "-c", "/nonexistent.conf"], capture_output=True, timeout=30).returncode == 3


def signals_are_mosquittos(folder):
    for program in ("mosquitto", "midge"):
        broker = Broker(program, folder, ["user root", f"pid_file {folder}/{program}.pid"])
        until("the pid_file", lambda: (folder / f"{program}.pid").read_text().strip() == str(broker.process.pid))
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            broker.process.send_signal(number)
            time.sleep(0.3)
            assert broker.process.poll() is None and broker.is_open(), (program, number)
        assert broker.end() == 0, program
        assert not (folder / f"{program}.pid").exists(), program
        assert Broker(program, folder, ["user root"]).end(signal.SIGINT) == 0, program
    log = (folder / "midge.log").read_text()
    assert "starting" in log, log


def root_is_left_for_the_user(folder):
    os.chmod(folder, 0o755)
    for user in ("mosquitto", "nobody"):
        data = folder / user
        data.mkdir(mode=0o755)
        lines = [f"user {user}", f"log_dest file {data}/site.log"]
        # A port that only root may open.
        broker = Broker("midge", data, lines, port=next(port for port in range(600, 1024) if is_free(port)))
        wanted = pwd.getpwnam(user)
        # The port is open before root is left, and answers after that.
        status = Path(f"/proc/{broker.process.pid}/status")
        until(f"root is not left for {user}", lambda: f"Uid:\t{wanted.pw_uid}\t" in status.read_text())
        status = Path(f"/proc/{broker.process.pid}/status").read_text().splitlines()
        uids = next(line for line in status if line.startswith("Uid:")).split()[1:]
        gids = next(line for line in status if line.startswith("Gid:")).split()[1:]
        assert uids == [str(wanted.pw_uid)] * 4 and gids == [str(wanted.pw_gid)] * 4, status
        for thread in Path(f"/proc/{broker.process.pid}/task").iterdir():
            assert f"Uid:\t{wanted.pw_uid}\t{wanted.pw_uid}\t" in (thread / "status").read_text(), thread
        address = ["-h", "127.0.0.1", "-p", str(broker.port), "-t", "kept"]
        subprocess.run(["mosquitto_pub", *address, "-m", "x", "-r", "-q", "1"], check=True, timeout=30)
        assert broker.end() == 0
        assert {path.stat().st_uid for path in (data / "data").iterdir()} == {wanted.pw_uid}
        again = Broker("midge", data, lines)
        words = ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(again.port), "-t", "kept", "-C", "1", "-W", "10"]
        assert subprocess.run(words, capture_output=True, text=True, timeout=30).stdout == "x\n"
        assert again.end() == 0
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    (closed / "try-data").mkdir()
    said = outcome("midge", closed, f"user nobody\nlistener {free_port()} 127.0.0.1\nallow_anonymous true\n")
    assert said[0] == 1 and f"the user nobody may not enter {closed}: let it" in said[1], said
    said = outcome("midge", folder, "# comment\nuser no-such-user\nport 1\nallow_anonymous true\n")
    assert said[0] == 3 and "try.conf:2:6: user: this machine has no user" in said[1], said


def is_free(port):
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
            return True
        except OSError:
            return False


def without_persistence_nothing_survives(folder):
    lines = ["user root", "persistence false"]
    for expected in ("", ""):
        broker = Broker("midge", folder, lines)
        address = ["-h", "127.0.0.1", "-p", str(broker.port), "-t", "kept"]
        words = ["mosquitto_sub", *address, "-C", "1", "-W", "1"]
        assert subprocess.run(words, capture_output=True, text=True, timeout=30).stdout == expected
        subprocess.run(["mosquitto_pub", *address, "-m", "x", "-r", "-q", "2"], check=True, timeout=30)
        assert subprocess.run(words, capture_output=True, text=True, timeout=30).stdout == "x\n"
        assert broker.end() == 0
    assert not (folder / "data/store.db").exists()


def the_log_is_published(folder):
    broker = Broker("midge", folder, ["user root", "log_dest topic", "log_timestamp_format at %Y"])
    address = ["-h", "127.0.0.1", "-p", str(broker.port)]
    words = ["mosquitto_sub", *address, "-t", "$SYS/broker/log/#", "-v", "-C", "1", "-W", str(PATIENCE), "-i", "ear"]
    ear = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    while ear.poll() is None:
        subprocess.run(["mosquitto_pub", *address, "-i", "mouth", "-t", "a", "-m", "x"], check=True, timeout=30)
        time.sleep(0.1)
    line = ear.communicate()[0]
    assert line.startswith("$SYS/broker/log/I at 2"), line
    assert broker.end() == 0


def debians_files_are_read(folder):
    def check(path):
        done = subprocess.run([MIDGE, "check", path, "--json"], capture_output=True, text=True, timeout=30)
        return done.returncode, json.loads(done.stdout)

    code, report = check(EXAMPLE)
    assert code == 0 and report["lines"] == [], report
    code, report = check("/etc/mosquitto/mosquitto.conf")
    verdicts = {line["directive"]: line["verdict"] for line in report["lines"]}
    assert code == 0 and verdicts["persistence_location"] == "honoured", report
    # Every directive that the example explains is known: honoured, mapped, or not supported with a reason.
    names = {line[1:].split()[0] for line in EXAMPLE.read_text().splitlines() if line[:1] == "#" and line[1:2].isalpha()}
    assert len(names) > 80, names
    for name in sorted(names):
        conf = folder / "one.conf"
        conf.write_text(f"{name} x\n")
        (line,) = check(conf)[1]["lines"]
        assert "unknown" not in " ".join(line["words"]), line


if __name__ == "__main__":
    run(
        [
            exit_codes_are_mosquittos,
            signals_are_mosquittos,
            root_is_left_for_the_user,
            without_persistence_nothing_survives,
            the_log_is_published,
            debians_files_are_read,
        ]
    )
