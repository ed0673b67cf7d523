"""What a lone site promises of acknowledged messages: over kill -9 at any moment, and over a loss of power at any moment.

`MIDGE_KILLS=200` and `MIDGE_CUTS=500` make the loops longer than the tests of every day; `MIDGE_SEED` repeats a run."""

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import raw
import runner
from program import MIDGE, free_port

KILLS = int(os.environ.get("MIDGE_KILLS", "20"))
CUTS = int(os.environ.get("MIDGE_CUTS", "60"))
SEED = int(os.environ.get("MIDGE_SEED", str(time.time_ns() % 1_000_000)))



class Site:
    """One midge on loopback."""

    def __init__(self, workdir, name="site", sync="os", data=None, wrapper=()):
        self.port = free_port()
        self.data = data or workdir / f"{name}-data"
        self.log = workdir / f"{name}.log"
        self.conf = workdir / f"{name}.toml"
        self.conf.write_text(f'[site]\nsync = "{sync}"\n[[listener]]\nbind = "127.0.0.1:{self.port}"\n'
                             "[limits]\nqueue_messages_max = 1_000_000\n")
        self.wrapper, self.process = list(wrapper), None

    def start(self):
        command = [*self.wrapper, MIDGE, "run", "-c", str(self.conf), "--data", str(self.data)]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(command, stderr=log, stdout=log)
        deadline = time.monotonic() + raw.PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return self
            except OSError:
                assert self.process.poll() is None and time.monotonic() < deadline, "the site does not start"
                time.sleep(0.005)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        self.process.terminate()
        self.process.wait(30)


def collect(client, expected, silence=raw.PATIENCE):
    """Takes what waits for a client until `expected` topics and payloads have come, or nothing comes for so many
    seconds; answers what is missing. What more there is after that comes within moments."""
    missing = set(expected) - {message[:2] for message in client.received}
    for is_done, patience in ((lambda: not missing, silence), (lambda: False, 0.2)):
        client.socket.settimeout(patience)
        try:
            while not is_done():
                seen = len(client.received)
                client.step()
                missing.difference_update(message[:2] for message in client.received[seen:])
        except raw.Silent:
            pass
    client.socket.settimeout(raw.PATIENCE)
    return missing


class Load:
    """Publishers of each QoS that number their messages, a reader that comes back, and one who is away."""

    def __init__(self, port):
        self.port, self.counts = port, {}
        self.publishers = {f"q{qos}/{name}": (raw.Client(port, f"pub-{qos}{name}"), qos)
                           for qos in (1, 2) for name in "ab"}
        self.keeper = (raw.Client(port, "keeper"), 1)  # of retained values
        self.reader, self.away = raw.Client(port, "reader"), raw.Client(port, "away")
        for client in (self.reader, self.away):
            client.connect().subscribe("+/+", 2)
        self.away.disconnect()
        self.failures = []

    def run(self):
        """Until the site is gone: then everybody has noticed."""
        threads = [threading.Thread(target=self._guarded, args=(self._publish, topic), daemon=True)
                   for topic in [*self.publishers, "kept"]]
        threads.append(threading.Thread(target=self._guarded, args=(self._read,), daemon=True))
        for thread in threads:
            thread.start()
        return threads

    def _guarded(self, what, *args):
        try:
            what(*args)
        except (raw.Gone, ConnectionError):
            pass
        except Exception as error:
            self.failures.append(repr(error))

    def _publish(self, topic):
        client, qos = self.keeper if topic == "kept" else self.publishers[topic]
        client.connect()
        while True:
            number = self.counts[topic] = self.counts.get(topic, 0) + 1
            if topic == "kept":
                client.publish(f"kept/{number % 5}", str(number), qos, retain=True)
            else:
                client.publish(topic, str(number), qos)

    def _read(self):
        self.reader.connect()
        assert self.reader.present, "the session of the reader is gone"
        while True:
            self.reader.step()

    def check_retained(self):
        """No retained value is older than the last one acknowledged."""
        last = {}
        for topic, payload, _ in self.keeper[0].acked:
            last[topic] = int(payload)
        fresh = raw.Client(self.port, "fresh", clean=True).connect().subscribe("kept/+", 0)
        fresh.ping()
        fresh.disconnect()
        seen = {topic: int(payload) for topic, payload, _, retain in fresh.received if retain}
        for topic, number in last.items():
            assert seen.get(topic, 0) >= number, f"{topic}: {number} was acknowledged, {seen.get(topic)} is retained"

    def finish(self):
        """Everybody comes back and gets what is theirs."""
        for client, _ in [*self.publishers.values(), self.keeper]:
            client.connect()
            client.flush()
            client.disconnect()
        clients = [client for client, _ in [*self.publishers.values(), self.keeper]]
        expected = {message[:2] for client in clients for message in client.acked}
        for client in (self.reader, self.away):
            client.connect()
            assert client.present, f"the session of {client.ident} is gone"
            missing = collect(client, expected)
            assert not missing, f"{client.ident} does not get {len(missing)} of {len(expected)}: {sorted(missing)[:9]}"
            client.disconnect()

    def check(self):
        """Nothing acknowledged is lost, nothing of QoS 2 is doubled, and every publisher's order is kept."""
        assert not self.failures, self.failures
        for client in (self.reader, self.away):
            for topic, (publisher, qos) in self.publishers.items():
                numbers = [int(payload) for at, payload, *_ in client.received if at == topic]
                acked = {int(payload) for _, payload, _ in publisher.acked}
                lost = sorted(acked - set(numbers))
                assert not lost, f"{client.ident}: {len(lost)} of {len(acked)} acknowledged on {topic} lost: {lost[:9]}"
                first = list(dict.fromkeys(numbers))
                assert first == sorted(first), f"{client.ident}: {topic} out of order"
                if qos == 2:
                    doubled = len(numbers) - len(first)
                    assert not doubled, f"{client.ident}: {doubled} on {topic} twice"


def kill_9_in_a_loop(workdir):
    chance = random.Random(SEED)
    site = Site(workdir).start()
    load = Load(site.port)
    for number in range(KILLS):
        threads = load.run()
        time.sleep(chance.uniform(0.0, 0.4))
        site.kill()
        for thread in threads:
            thread.join(raw.PATIENCE * 2)
            assert not thread.is_alive(), "a client hangs"
        assert not load.failures, load.failures
        site.start()
        load.check_retained()
        if KILLS > 20 and (number + 1) % 20 == 0:
            print(f"    {number + 1} kills, {sum(load.counts.values())} messages", flush=True)
    load.finish()
    site.stop()
    load.check()
    acked = sum(len(client.acked) for client, _ in load.publishers.values())
    print(f"    seed {SEED}: {KILLS} kills, {acked} messages acknowledged, none lost for 2 readers, none of QoS 2 twice")


SECTOR = 512
MESSAGES = 1000  # of each QoS: enough for the log of the database to be written back at least once
CALL = re.compile(r"^(\d+) +(?:<\.\.\. )?(\w+)(?:\(| resumed>)(.*)$")
DATA = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


class Tape:
    """What a traced site wrote, call by call: `strace` shows every write to a file, every flush, and every byte to a
    client. What is flushed is on the disk; of the rest each sector may be there or not."""

    def __init__(self, path, data):
        self.calls, self.under = [], {}
        for line in path.read_text(errors="replace").splitlines():
            found = CALL.match(line)
            if found:
                self._call(str(data), *found.groups())

    def _call(self, data, thread, name, rest):
        file = re.match(r"\d+<([^>]*)>", rest)
        file = bytes.fromhex(file.group(1).replace("\\x", "")).decode() if file else None
        if name in ("fsync", "fdatasync"):
            # It holds for what was written before it began, once it has returned.
            if file:
                self.under[thread] = file, len(self.calls)
            if "unfinished" not in rest and thread in self.under:
                self.calls.append(("flush", *self.under.pop(thread)))
        elif name in ("sendto", "write", "writev", "sendmsg") and file and not file.startswith(data):
            sent = b"".join(bytes.fromhex(piece.replace("\\x", "")) for piece in DATA.findall(rest))
            self.calls.append(("send", file, sent))
        elif file and file.startswith(data + "/store.db"):
            if name == "pwrite64":
                piece = bytes.fromhex(DATA.search(rest).group(1).replace("\\x", ""))
                offset = int(rest[DATA.search(rest).end():].split(",")[2].split(")")[0].split("<")[0])
                self.calls.append(("write", file, offset, piece))
            elif name == "ftruncate":
                self.calls.append(("cut", file, int(rest.split(",")[1].split(")")[0].split("<")[0])))

    def disk_at(self, end, base, chance):
        """The files as they may be after a loss of power before call `end`; each sector not flushed is there or not."""
        flushed = {}
        for call in self.calls[:end]:
            if call[0] == "flush":
                flushed[call[1]] = call[2]
        files = {name: bytearray(content) for name, content in base.items()}
        how = chance.choice(["none", "all", "first", "some"])
        keep = chance.randrange(end + 1)
        for at, call in enumerate(self.calls[:end]):
            if call[0] not in ("write", "cut"):
                continue
            content = files.setdefault(call[1], bytearray())
            is_safe = at < flushed.get(call[1], 0)
            if call[0] == "cut":
                if is_safe or how == "all" or (how == "first" and at < keep):
                    del content[call[2]:]
                    content.extend(bytes(call[2] - len(content)))
                continue
            for start in range(0, len(call[3]), SECTOR):
                there = is_safe or how == "all" or (how == "first" and at < keep)
                if there or (how == "some" and chance.random() < 0.5):
                    place, piece = call[2] + start, call[3][start:start + SECTOR]
                    content.extend(bytes(max(0, place + len(piece) - len(content))))
                    content[place:place + len(piece)] = piece
        return files

    def acknowledged(self, end):
        """By QoS, the packet identifiers that had been acknowledged before call `end`: what publishers get is PUBACK
        and PUBREC, CONNACK and PUBCOMP, four bytes each."""
        acks = {1: set(), 2: set()}
        for call in self.calls[:end]:
            if call[0] == "send" and call[1].startswith("socket:"):
                for at in range(0, len(call[2]), 4):
                    qos = {b"\x40\x02": 1, b"\x50\x02": 2}.get(call[2][at:at + 2])
                    if qos:
                        acks[qos].add(int.from_bytes(call[2][at + 2:at + 4], "big"))
        return acks


def payload_of(number):
    return f"{number:05}" + "." * (number * 37 % 9000)


def traced(workdir, sync, messages):
    """A site under strace, a subscriber that is away, and two publishers; then the tape and what the disk was before."""
    site = Site(workdir, f"traced-{sync}", sync).start()
    raw.Client(site.port, "away").connect().subscribe("+", 2).disconnect()
    site.stop()
    base = {str(path): path.read_bytes() for path in site.data.glob("store.db*")}
    base = {name: content for name, content in base.items() if not name.endswith("-shm")}
    tape = workdir / f"{sync}.strace"
    site.wrapper = ["strace", "-f", "-y", "-xx", "-s", "10000000", "-o", str(tape), "-e",
                    "trace=pwrite64,write,writev,sendto,sendmsg,fsync,fdatasync,ftruncate"]
    site.start()
    publishers = [(raw.Client(site.port, f"pub-{qos}").connect(), qos) for qos in (1, 2)]
    for number in range(1, messages + 1):
        for client, qos in publishers:
            client.publish(f"q{qos}", payload_of(number), qos)
    for client, _ in publishers:
        client.flush()
    # strace passes nothing on to what it traces: the site itself is told.
    child = int(Path(f"/proc/{site.process.pid}/task/{site.process.pid}/children").read_text().split()[0])
    os.kill(child, signal.SIGKILL)
    site.process.wait()
    return site, Tape(tape, site.data), base


def losses(workdir, sync, chance, cuts, messages):
    """How many acknowledged messages are gone and how many are doubled after `cuts` losses of power."""
    site, tape, base = traced(workdir, sync, messages)
    sends = [at for at, call in enumerate(tape.calls) if call[0] == "send" and call[2][:1] in (b"\x40", b"\x50")]
    assert len(sends) > 10, "the tape shows no acknowledgements"
    assert any(call[0] == "write" and call[1].endswith(".db") for call in tape.calls), "nothing went to the database"
    lost = doubled = checked = 0
    for cut in range(cuts):
        # Half of them right after an acknowledgement: that is when it hurts most.
        end = chance.choice(sends) + 1 if cut % 2 else chance.randrange(len(tape.calls) + 1)
        data = workdir / "cut-data"
        shutil.rmtree(data, ignore_errors=True)
        shutil.copytree(site.data, data, ignore=shutil.ignore_patterns("store.db*", "*.sock", "control*", "lock*"))
        for name, content in tape.disk_at(end, base, chance).items():
            (data / Path(name).name).write_bytes(content)
        again = Site(workdir, "cut", sync, data).start()
        away = raw.Client(again.port, "away").connect()
        present = away.present
        acks = tape.acknowledged(end)
        # A publisher's n-th message had packet identifier n.
        missing = collect(away, {(f"q{qos}", payload_of(number)) for qos, ids in acks.items() for number in ids}, 2)
        away.disconnect()
        again.kill()
        numbers = [payload for topic, payload, *_ in away.received if topic == "q2"]
        doubled += len(numbers) - len(set(numbers))
        lost += len(missing) + (0 if present else 1)
        checked += sum(len(ids) for ids in acks.values())
    return lost, doubled, checked


def power_is_lost_at_any_call(workdir):
    """With `sync = "disk"` nothing acknowledged is lost, whichever of the unflushed sectors made it."""
    chance = random.Random(SEED)
    lost, doubled, checked = losses(workdir, "disk", chance, CUTS, MESSAGES)
    print(f"    seed {SEED}: {CUTS} losses of power, {checked} acknowledgements looked after: {lost} lost, {doubled} twice")
    assert (lost, doubled) == (0, 0) and checked > 20 * CUTS


def without_flushing_power_loses_something(workdir):
    """The layer that tears writes does find what is missing: `sync = "os"` does not promise as much."""
    lost, _, _ = losses(workdir, "os", random.Random(SEED), 8, MESSAGES)
    print(f"    seed {SEED}: {lost} acknowledged messages lost, as sync = \"os\" allows")
    assert lost > 0


runner.run([kill_9_in_a_loop, power_is_lost_at_any_call, without_flushing_power_loses_something])
