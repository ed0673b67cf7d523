"""Ring 4: everything that a site reads, made bad: bytes of clients, datagrams, mailboxes, the store, tokens, files, words.

    python3 tests/real/bad_input.py [NAME…]     all tests, or those named

Whatever comes, the load between two sites goes on, nothing acknowledged is lost, memory stays within what the limits
allow, nothing panics, and whoever can act is told what, where, and what next. Needs root, iproute2, nftables, mosquitto
with its clients, and paho-mqtt. SEED=N chooses other random bytes.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path

import paho.mqtt.client as paho

from device import Device, settle
from lab import Lab, MAILBOX_PORT, PUBLIC, sh, stop, until
from midge_site import MIDGE, Site, meet, show
from runner import run

SEED = int(os.environ.get("SEED", "1"))
MESH_PORT = 4242
LIMITS = """[limits]
connections_max = 300
connections_per_address_max = 250
outgoing_bytes_max = "256KiB"
queue_messages_max = 1000
queue_bytes_max = "1MiB"
packet_max = "1MiB"
"""


class Load:
    """Devices that publish steadily on each site and hear all of it on both."""

    def __init__(self, lab, *sites):
        self.lab, self.sites = lab, sites
        self.ears = [Device(lab, s.host, f"load-ear-{s.name}", subscribe=["load/#"]) for s in sites]
        self.mouths = [Device(lab, s.host, f"load-mouth-{s.name}") for s in sites]
        self.worst, self.cuts, self.count = 0.0, 0, 0
        for ear in self.ears:
            ear.ready()
            remember = ear.client.on_message
            ear.client.on_message = lambda *args, remember=remember: self._heard(remember, *args)
        for device in self.ears + self.mouths:
            device.client.on_disconnect = lambda *_: self._cut()
        meet(*sites)
        self.running = True
        self.thread = threading.Thread(target=self._speak, daemon=True)
        self.thread.start()

    def _cut(self):
        if self.running:
            self.cuts += 1

    def _heard(self, remember, client, data, message):
        late = time.monotonic() - float(message.payload.split()[1])
        self.worst = max(self.worst, late)
        remember(client, data, message)

    def _speak(self):
        while self.running:
            for site, mouth in zip(self.sites, self.mouths):
                for qos in (1, 2):
                    mouth.publish(f"load/{site.name}/{qos}", f"{self.count} {time.monotonic()}", qos=qos)
            self.count += 1
            time.sleep(0.02)

    def end(self, patience=30):
        """Everything acknowledged was heard everywhere once and in order, by devices that were never cut off."""
        self.running = False
        self.thread.join()
        for mouth in self.mouths:
            until("every acknowledgement", lambda m=mouth: m.unacknowledged() == 0, patience)
        settle(self.ears, patience)
        for ear, at in zip(self.ears, self.sites):
            for site in self.sites:
                for qos in (1, 2):
                    topic = f"load/{site.name}/{qos}"
                    got = [int(payload.split()[0]) for payload in ear.payloads(topic)]
                    assert got == list(range(self.count)), f"{topic} at {at.name}: lost, doubled or out of order"
        assert self.cuts == 0, f"devices of the load were cut off {self.cuts} times"
        show(f"load: {self.count} rounds of QoS 1 and 2 on {len(self.sites)} sites all there, once, in order; "
             f"the slowest took {self.worst * 1000:.0f} ms")


class Watch:
    """The site's memory while it is mistreated, its process, and its log."""

    def __init__(self, site, more_kb):
        self.site, self.pid = site, site.pid()
        self.before, self.most, self.more = site.rss_kb(), 0, more_kb
        self.running = True
        self.thread = threading.Thread(target=self._look, daemon=True)
        self.thread.start()

    def _look(self):
        while self.running:
            with contextlib.suppress(OSError):
                self.most = max(self.most, self.site.rss_kb())
            time.sleep(0.05)

    def end(self, what):
        self.running = False
        self.thread.join()
        assert self.site.process.poll() is None, f"the site has ended with {self.site.process.returncode}"
        assert "panicked" not in log_of(self.site)
        show(f"{what}: RSS {self.before} kB before, {self.most} kB at most, {self.site.rss_kb()} kB now")
        assert self.most < self.before + self.more, f"more than {self.more} kB on top"


def log_of(site):
    return (site.lab.workdir / f"{site.name}.log").read_text(errors="replace")


@contextlib.contextmanager
def two_sites(workdir, limits=LIMITS):
    with Lab({"a": "open", "b": "open"}, workdir) as lab:
        lab.mailbox()
        a = Site(lab, "a", "cabin", stun=False, mesh=f"port = {MESH_PORT}\n{limits}")
        b = Site(lab, "b", "boat", token=a.token, stun=False, mesh=f"port = {MESH_PORT}\n{limits}")
        a.start(), b.start()
        meet(a, b)
        yield lab, a, b


# Bytes on TCP -------------------------------------------------------------------------------------------------------


def connect(level, ident, clean=True):
    body = b"\0\x04MQTT" + bytes([level, 2 if clean else 0]) + b"\0\x3c" + (b"\0" if level == 5 else b"")
    body += struct.pack(">H", len(ident)) + ident
    return b"\x10" + bytes([len(body)]) + body


# What is wrong with it, the bytes, and the reason that MQTT 5 is told once it is in.
MALFORMED = [
    ("no such packet", b"\x00\x00", 0x81),
    ("flags of SUBSCRIBE", b"\x80\x00", 0x81),
    ("QoS 3", b"\x36\x03\x00\x01t", 0x81),
    ("cut short inside", b"\x30\x01\x00", 0x81),
    ("a length of five bytes", b"\x30\xff\xff\xff\xff\x01", 0x81),
    ("an empty CONNECT", b"\x10\x00", 0x81),
    ("what only servers say", b"\x20\x03\x00\x00\x00", 0x82),
    ("packet identifier 0", b"\x32\x06\x00\x01t\x00\x00\x00", 0x82),
    ("a wildcard in a topic", b"\x30\x05\x00\x01+\x00x", 0x90),
    ("an empty filter", b"\x82\x05\x00\x01\x00\x00\x00", 0x81),
    ("no UTF-8", b"\x30\x04\x00\x01\xc3\x28", 0x81),
    ("a second CONNECT of an unknown version", b"\x10\x0d\x00\x04MQTT\x09\x02\x00\x00\x00\x01a", 0x82),
    ("a payload of 256 MiB", b"\x30\xff\xff\xff\x7f\x00\x01t", 0x95),
]


def dial(patience=10):
    conn = socket.create_connection(("127.0.0.1", 1883), timeout=patience)
    conn.settimeout(patience)
    return conn


def until_closed(conn):
    """All that is still said; `TimeoutError` if the site keeps the connection."""
    heard = b""
    with contextlib.suppress(ConnectionError):
        while chunk := conn.recv(65536):
            heard += chunk
    conn.close()
    return heard


def malformed_bytes():
    for name, data, reason in MALFORMED:
        conn = dial()
        conn.sendall(data)
        assert until_closed(conn) in (b"", b"\x20\x02\x00\x01", b"\x20\x03\x00\x84\x00"), f"{name}, before CONNECT"
        conn = dial()
        conn.sendall(connect(4, b"bad") + data)
        assert until_closed(conn) == b"\x20\x02\x00\x00", f"{name}, in 3.1.1"
        conn = dial()
        conn.sendall(connect(5, b"bad") + data)
        heard = until_closed(conn)
        last = heard[2 + heard[1]:]
        assert heard[:1] == b"\x20" and last[:1] == b"\xe0" and last[2] == reason, f"{name}, in 5: {heard.hex()}"


def random_bytes(rng, rounds):
    valid = connect(5, b"bad") + b"\x82\x07\x00\x01\x00\x00\x01#\x01" + b"\x32\x08\x00\x01t\x00\x02\x00xy\xc0\x00"
    for n in range(rounds):
        data = bytearray(valid)
        if n % 3 == 0:
            data = bytearray(rng.randbytes(rng.randrange(1, 2000)))
        for _ in range(rng.randrange(4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        conn = dial()
        with contextlib.suppress(ConnectionError):
            for at in range(0, len(data), cut := rng.randrange(1, len(data) + 1)):
                conn.sendall(data[at:at + cut])
        conn.close()


def claims(count, length):
    """Connections that announce a payload and send one byte of it."""
    conns = []
    for n in range(count):
        conn = dial()
        conn.sendall(connect(4, f"claim{n}".encode()) + b"\x30" + length + b"\x00\x01tx")
        conns.append(conn)
    return conns


def flood(count):
    """Connections until they are turned away, and more: how many were served."""
    conns = []
    for n in range(count):
        with contextlib.suppress(ConnectionError, TimeoutError):
            conn = dial()
            conns.append(conn)
            conn.sendall(connect(4, f"flood{n}".encode()))
    time.sleep(1)
    served = 0
    for conn in conns:
        with contextlib.suppress(ConnectionError, BlockingIOError):
            conn.setblocking(False)
            served += conn.recv(4) == b"\x20\x02\x00\x00"
        conn.close()
    return served


def slow_readers(count, messages):
    """Subscribers that never read, at QoS 0 and 1, and somebody who talks to them."""
    conns = []
    for n in range(count):
        conn = dial()
        conn.sendall(connect(4, f"slow{n}".encode()) + b"\x82\x09\x00\x01\x00\x04slow" + bytes([n % 2]))
        conns.append(conn)
    time.sleep(0.5)
    talker = dial(30)
    talker.sendall(connect(4, b"talker"))
    publish = b"\x30\x86\x08\x00\x04slow" + bytes(1024)
    for _ in range(messages):
        talker.sendall(publish)
    talker.close()
    return conns


def hostile_clients_harm_only_themselves(workdir):
    with two_sites(workdir) as (lab, a, b):
        load = Load(lab, a, b)
        idle = lab.call("a", lambda: [dial(60) for _ in range(40)])
        idle_since = time.monotonic()
        half = lab.call("a", lambda: [dial(60) for _ in range(20)])
        for n, conn in enumerate(half):
            conn.sendall(connect(4, b"half")[:1 + n % 14])

        watch = Watch(a, more_kb=10_000)
        lab.call("a", malformed_bytes)
        rng = random.Random(SEED)
        show(f"seed {SEED}")
        lab.call("a", random_bytes, rng, 600)
        watch.end(f"{3 * len(MALFORMED)} malformed and 600 random connections")

        watch = Watch(a, more_kb=20_000)
        conns = lab.call("a", claims, 100, b"\xff\xff\xff\x7f")
        for conn in conns:
            assert until_closed(conn) == b"\x20\x02\x00\x00"
        conns = lab.call("a", claims, 100, b"\xf0\xff\x3f")
        time.sleep(1)
        watch.end("100 claims of 256 MiB refused, 100 of 1 MiB waiting")
        for conn in conns:
            conn.close()

        # 40 outgoing buffers of 256 KiB, 20 queues of 1 MiB, shared payloads and what the kernel holds for nobody.
        watch = Watch(a, more_kb=60_000)
        conns = lab.call("a", slow_readers, 40, 20_000)
        until("messages for slow readers are dropped", lambda: a.status()["broker"]["dropped"] > 0, 20)
        watch.end("40 slow readers, 20 MB for each")
        for conn in conns:
            conn.close()

        watch = Watch(a, more_kb=20_000)
        turned_away = a.status()["broker"]["turned_away"]
        served = lab.call("a", flood, 500)
        now = a.status()["broker"]["turned_away"]
        assert 100 <= served <= 250 and now >= turned_away + 200, (served, now)
        watch.end(f"500 connections at once: {served} served, {now - turned_away} turned away and counted")

        for conn in idle + half:
            with contextlib.suppress(ConnectionError):
                assert conn.recv(1) == b"", "no CONNECT, and yet an answer"
            conn.close()
        show(f"60 half-open connections ended within {time.monotonic() - idle_since:.0f} s")
        load.end()


# Datagrams ----------------------------------------------------------------------------------------------------------

def stun_like(rng):
    attributes = rng.randbytes(4 * rng.randrange(20))
    length = rng.choice([len(attributes), rng.randrange(65536)])
    return struct.pack(">HHI", rng.choice([1, 0x101, 0x111, 3, 0x16, 0x17, rng.randrange(0x4000)]), length,
                       0x2112A442) + rng.randbytes(12) + attributes


def quic_like(rng):
    first = rng.choice([0xC0, 0xD0, 0xE0, 0xF0, 0x40]) | rng.randrange(16)
    version = rng.choice([1, 0, 0x6B3343CF, rng.randrange(1 << 32)])
    ids = bytes([8]) + rng.randbytes(8) + bytes([rng.choice([0, 8, 20, 255])]) + rng.randbytes(8)
    return (bytes([first]) + struct.pack(">I", version) + ids + rng.randbytes(1200))[:rng.choice([1200, 1252, 30, 60])]


def door_like(rng):
    return bytes([DOOR_BYTE]) + rng.choice([b"", b"midge", b"\x01", b"\x00"]) + rng.randbytes(rng.randrange(700))


def turn_like(rng):
    return struct.pack(">HH", 0x4000 + rng.randrange(0x1000), rng.randrange(1500)) + rng.randbytes(rng.randrange(1400))


def anything(rng):
    return rng.randbytes(rng.randrange(1473))


DOOR_BYTE = 0x05
KINDS = [stun_like, quic_like, door_like, turn_like, anything]


def throw(rng, count):
    out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for n in range(count):
        out.sendto(KINDS[n % len(KINDS)](rng), ("10.10.0.2", MESH_PORT))
        if n % 50 == 49:
            time.sleep(0.005)
    out.close()


def impersonate(rng, count):
    """The same from the peer's own address and port: whoever is on the way can do that."""
    out = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    source, target = socket.inet_aton("10.20.0.2"), socket.inet_aton("10.10.0.2")
    for n in range(count):
        payload = KINDS[n % len(KINDS)](rng)
        udp = struct.pack(">HHHH", MESH_PORT, MESH_PORT, 8 + len(payload), 0) + payload
        ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), n & 0xFFFF, 0, 64, 17, 0, source, target)
        with contextlib.suppress(OSError):
            out.sendto(ip + udp, ("10.10.0.2", 0))
        if n % 50 == 49:
            time.sleep(0.005)
    out.close()


def received_datagrams(lab, host):
    snmp = lab.inside(host, "cat", "/proc/net/snmp").stdout.splitlines()
    return int([line for line in snmp if line.startswith("Udp:")][1].split()[1])


def garbage_datagrams_disturb_nobody(workdir):
    with two_sites(workdir) as (lab, a, b):
        for host in ("pub", "nat-a", "nat-b", "a"):
            for name in ("all", "default"):
                lab.inside(host, "sysctl", "-qw", f"net.ipv4.conf.{name}.rp_filter=0")
        load = Load(lab, a, b)
        watch = Watch(a, more_kb=10_000)
        rng = random.Random(SEED)
        show(f"seed {SEED}")
        for what, send, count in [("anybody", throw, 50_000), ("the peer's own address", impersonate, 50_000)]:
            before = received_datagrams(lab, "a")
            lab.call("pub", send, rng, count)
            came = received_datagrams(lab, "a") - before
            assert came > count // 2, f"only {came} of {count} reached the site: the test does not test"
            show(f"{came} datagrams from {what}")
            assert a.peer("boat")["up"], "the link is gone"
        watch.end("100,000 garbage datagrams")
        assert len(a.status()["mesh"]["peers"]) == 1, a.status()["mesh"]["peers"]
        load.end()


# Mailbox ------------------------------------------------------------------------------------------------------------

def vandalise(rng, seconds):
    """Reads all topics and answers each message with garbage on its topic, with and without RETAIN."""
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    topics, sent = set(), 0
    client.on_message = lambda _c, _d, message: topics.add(message.topic)
    client.connect(PUBLIC, MAILBOX_PORT)
    client.subscribe("#")
    client.loop_start()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for topic in list(topics):
            # Too large for any card, and kept for everybody who subscribes later.
            client.publish(topic, rng.randbytes(100_000), retain=True)
            for size in (0, 1, 50, 500, 5000, 200_000):
                client.publish(topic, rng.randbytes(size))
                sent += 1
        time.sleep(0.1)
    client.disconnect()
    client.loop_stop()
    return len(topics), sent


def garbage_in_the_mailbox_keeps_nobody_apart(workdir):
    with two_sites(workdir) as (lab, a, b):
        load = Load(lab, a, b)
        watches = [Watch(site, more_kb=20_000) for site in (a, b)]
        rng = random.Random(SEED)
        result = {}
        work = lambda: result.update(said=lab.call("pub", vandalise, rng, 25))
        vandal = threading.Thread(target=work, daemon=True)
        vandal.start()
        time.sleep(3)
        # A third site finds both while the vandal is at work.
        c = Site(lab, "b", "late", token=a.token, stun=False, top="", mesh='[[listener]]\nbind = "127.0.0.1:1884"')
        c.start()
        meet(a, b, c, seconds=60)
        show("a third site has met both meanwhile")
        vandal.join()
        topics, sent = result["said"]
        assert topics and sent, "the vandal found nothing: the test does not test"
        for watch in watches:
            watch.end(f"{sent} garbage messages on {topics} mailbox topics, at {watch.site.name}")
        assert len(a.status()["mesh"]["peers"]) == 2
        load.end()


# Store --------------------------------------------------------------------------------------------------------------

def flip(path, rng, count):
    data = bytearray(path.read_bytes())
    for _ in range(count):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def cut(path, part):
    data = path.read_bytes()
    path.write_bytes(data[:int(len(data) * part)])


def log_file(store):
    return store.with_name(store.name + "-wal")


# What is done to the files of a site that was stopped, or killed where its log is meant; whether the operator must be
# told.
DAMAGES = [
    ("nothing", lambda store, rng: None, False),
    ("one bit", lambda store, rng: flip(store, rng, 1), None),
    ("a hundred bits", lambda store, rng: flip(store, rng, 100), None),
    ("the header", lambda store, rng: store.write_bytes(rng.randbytes(100) + store.read_bytes()[100:]), True),
    ("cut in half", lambda store, rng: cut(store, 0.5), True),
    ("cut to 100 bytes", lambda store, rng: store.write_bytes(store.read_bytes()[:100]), True),
    # Wrong today: taken for a first start that was cut short, so nobody is told.
    ("empty", lambda store, rng: store.write_bytes(b""), False),
    ("random bytes", lambda store, rng: store.write_bytes(rng.randbytes(50_000)), True),
    ("a text", lambda store, rng: store.write_text("this is no database\n" * 100), True),
    ("its log flipped", lambda store, rng: flip(log_file(store), rng, 20), None),
    # As after a loss of power with `sync = "os"`: the last batches never reached the disk, and nobody can know.
    ("its log cut", lambda store, rng: cut(log_file(store), 0.7), False),
    ("its log gone", lambda store, rng: log_file(store).unlink(), False),
    ("the store gone, its log left", lambda store, rng: store.unlink(), None),
]

# Where what is gone is the end, or all, and it was not noticed.
UNTOLD = ["empty", "its log cut", "its log gone"]


class Alone:
    """One site on a port of this machine, without a mesh."""

    def __init__(self, workdir, config=None):
        self.data, self.log = workdir / "data", workdir / "site.log"
        self.config = []
        if config:
            (workdir / "site.toml").write_text(config)
            self.config = ["-c", str(workdir / "site.toml")]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.process = None

    def start(self):
        with open(self.log, "wb") as out:
            words = [MIDGE, "run", "-v", "-p", str(self.port), "--data", str(self.data), *self.config]
            self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        until("the site listens", self._listens, 10)
        # Its log has been written once it answers.
        until("the site answers", self.status, 10)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        stop(self.process)

    def status(self):
        return json.loads(sh(MIDGE, "status", "--json", "--data", self.data).stdout)

    def _listens(self):
        assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.log.read_text()}"
        with socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True

    def talk(self, *words, input=None):
        return sh(*words, "-h", "127.0.0.1", "-p", self.port, input=input).stdout

    def rss_kb(self):
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def retained(site):
    """All retained values below `kept/`: what comes before a marker that is published once the subscription holds."""
    values, done = {}, threading.Event()

    def heard(_client, _data, message):
        if message.topic == "kept/marker":
            done.set()
        else:
            values[message.topic] = message.payload.decode()

    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.on_message = heard
    client.on_subscribe = lambda *_: client.publish("kept/marker", "")
    client.connect("127.0.0.1", site.port)
    client.subscribe("kept/#")
    client.loop_start()
    assert done.wait(30), "no marker"
    client.disconnect()
    client.loop_stop()
    return values


def a_damaged_store_starts_with_what_is_good(workdir):
    site = Alone(workdir)
    rng = random.Random(SEED)
    show(f"seed {SEED}")
    site.start()
    site.talk("mosquitto_sub", "-i", "sleeper", "-c", "-q", "1", "-t", "owed/#", "-E")
    kept = {f"kept/{n}": f"value {n} {'x' * 300}" for n in range(300)}
    for topic, value in kept.items():
        site.talk("mosquitto_pub", "-t", topic, "-m", value, "-r", "-q", "1")
    site.talk("mosquitto_pub", "-t", "owed/1", "-l", "-q", "1", input="\n".join(f"{n}" for n in range(200)) + "\n")
    stop(site.process, signal.SIGKILL)
    killed, stopped = workdir / "killed", workdir / "stopped"
    no_socket = shutil.ignore_patterns("*.sock")
    shutil.copytree(site.data, killed, ignore=no_socket)
    assert log_file(killed / "store.db").stat().st_size > 100_000, "nothing is in the log: the test does not test"
    site.start()
    assert stop(site.process) == 0
    shutil.copytree(site.data, stopped, ignore=no_socket)
    for name, damage, must_tell in DAMAGES:
        shutil.rmtree(site.data)
        shutil.copytree(killed if "log" in name else stopped, site.data)
        store = site.data / "store.db"
        damage(store, rng)
        site.start()
        log = site.log.read_text()
        told = "Store:" in log
        assert "panicked" not in log and (must_tell is None or told == must_tell), f"{name}: {log}"
        got = retained(site)
        assert all(kept.get(topic) == value for topic, value in got.items()), f"{name}: a value that nobody set"
        lost = len(kept) - len(got)
        assert told or got == dict(list(kept.items())[:len(got)]), f"{name}: a gap, and nobody was told"
        assert lost == 0 or told or name in UNTOLD, f"{name}: {lost} values are gone and nobody was told"
        assert name != "nothing" or lost == 0
        site.talk("mosquitto_pub", "-t", "kept/new", "-m", "served", "-r", "-q", "1")
        assert retained(site)["kept/new"] == "served", name
        status = json.loads(sh(MIDGE, "status", "--json", "--data", site.data).stdout)
        assert bool(status["damaged"]) == told, f"{name}: {status['damaged']}"
        assert stop(site.process) == 0
        # Once is enough: the second start has nothing to complain about, and has everything again.
        site.start()
        assert "Store:" not in site.log.read_text() and len(retained(site)) == len(got) + 1, name
        stop(site.process)
        show(f"{name}: {len(got)} of {len(kept)} retained values{', told' if told else ''}")


# A site alone ------------------------------------------------------------------------------------------------------

def mqtt_packet(kind, body):
    length, n = b"", len(body)
    while True:
        n, low = n >> 7, n & 0x7F
        length += bytes([low | (0x80 if n else 0)])
        if not n:
            return bytes([kind]) + length + body


def text(words):
    return struct.pack(">H", len(words)) + words


def with_will(ident):
    return mqtt_packet(0x10, text(b"MQTT") + b"\x04\x06\x00\x00" + text(ident) + text(b"will") + text(b"gone"))


def who_vanishes_behind_its_last_message_is_noticed(workdir):
    """The message and the end of the connection may come as one event."""
    with Alone(workdir) as site:
        vanish(site)


def vanish(site):
    ear = socket.create_connection(("127.0.0.1", site.port), timeout=10)
    ear.sendall(connect(4, b"ear") + mqtt_packet(0x82, b"\x00\x01" + text(b"will") + b"\x00"))
    publish = mqtt_packet(0x30, text(b"t") + b"x")
    for n in range(300):
        client = socket.create_connection(("127.0.0.1", site.port), timeout=10)
        client.sendall(with_will(f"c{n}".encode()))
        assert client.recv(4) == b"\x20\x02\x00\x00"
        if n % 10 == 0:
            os.kill(site.process.pid, signal.SIGSTOP)
        client.sendall(publish)
        client.close()
        if n % 10 == 0:
            os.kill(site.process.pid, signal.SIGCONT)
    heard = b""
    while heard.count(b"\x00\x04willgone") < 300:
        heard += ear.recv(65536)
    until("only the ear is left", lambda: site.status()["broker"]["clients"] == 1, 10)


def memory_is_kept_within_bounds(workdir):
    limits = ["retained_max = 1000", 'retained_bytes_max = "10 MiB"', "queue_messages_max = 5", 'queue_full = "drop"']
    with Alone(workdir, "\n".join(["[limits]", *limits, ""])) as site:
        stay_within_bounds(site)


def stay_within_bounds(site):
    before = site.rss_kb()
    # CONNECT packets that claim 16 MiB and send as much as is taken.
    halves = []
    for _ in range(50):
        conn = socket.create_connection(("127.0.0.1", site.port), timeout=2)
        with contextlib.suppress(OSError):
            conn.sendall(b"\x10\x80\x80\x80\x07" + b"\0" * 4_000_000)
        halves.append(conn)
    assert site.rss_kb() < before + 20_000, "first packets fill the memory"
    # Retained messages faster than any disk.
    conn = socket.create_connection(("127.0.0.1", site.port), timeout=60)
    conn.sendall(connect(4, b"flood"))
    conn.recv(4)
    most, payload = 0, b"x" * 9000
    burst = b"".join(mqtt_packet(0x31, text(b"t/%d" % n) + payload) for n in range(900))
    for _ in range(60):
        conn.sendall(burst)
        most = max(most, site.rss_kb())
    assert most < before + 150_000, f"what waits for the disk fills the memory: {most} kB"
    show(f"50 claims in CONNECT and 480 MB of retained messages: RSS {before} kB before, {most} kB at most")
    # A full queue of somebody absent drops, if it is configured so.
    away = socket.create_connection(("127.0.0.1", site.port), timeout=10)
    away.sendall(connect(4, b"away", clean=False) + mqtt_packet(0x82, b"\x00\x01" + text(b"q") + b"\x01"))
    assert away.recv(4) and away.recv(5)
    away.sendall(b"\xe0\x00")
    away.close()
    until("it is away", lambda: site.status()["broker"]["clients"] == 1, 10)
    for n in range(1, 21):
        conn.sendall(mqtt_packet(0x32, text(b"q") + struct.pack(">H", n) + b"m"))
    acks = b""
    while len(acks) < 80:
        acks += conn.recv(4096)
    assert site.status()["broker"]["dropped_by"]["queue full"] == 15, site.status()["broker"]


# Words --------------------------------------------------------------------------------------------------------------

def refused(words, code, *expected, input=None, cwd=None):
    run = subprocess.run([MIDGE, *map(str, words)], capture_output=True, text=True, errors="replace", timeout=20,
                         input=input, cwd=cwd)
    said = run.stdout + run.stderr
    assert run.returncode == code, f"{str(words)[:300]}: exit code {run.returncode}, not {code}: {said[:500]}"
    for word in expected:
        assert word in said, f"{str(words)[:300]}: no {word!r} in {said[:500]!r}"
    assert "panicked" not in said and "RUST_BACKTRACE" not in said, said
    return said


def a_bad_token_is_explained(workdir):
    token = sh(MIDGE, "create", "--data", workdir / "a").stdout.strip()
    other = sh(MIDGE, "create", "--data", workdir / "c").stdout.strip()
    target = ["--data", workdir / "b"]
    letters = [n for n, letter in enumerate(token) if n > 7 and letter != "-"]
    swapped = next(n for n in letters if n + 1 in letters and token[n] != token[n + 1])
    swap = token[:swapped] + token[swapped + 1] + token[swapped] + token[swapped + 2:]
    typo = token[:letters[5]] + ("a" if token[letters[5]] != "a" else "b") + token[letters[5] + 1:]
    rows = [("", "midge1-"), ("hello", "midge1-"), ("midge2" + token[6:], "midge1-"), (token[:-1], "cut short"),
            (token + "a", "65"), (token[:20], "cut short"), (typo, "group"), (swap, "group"),
            (token[:9] + "0" + token[10:], "the letter o"),
            (token[:9] + "é" + token[10:], "character 10"), ("midge1-" + "x" * 100_000, "65"), ("midge1-" * 10, "")]
    for text, word in rows:
        said = refused(["join", text, *target], 1, "token", word)
        assert len(said) < 500, said
    refused(["join", "-", *target], 1, "token", input="\0\1\2")
    refused(["join"], 2, "TOKEN")
    assert not (workdir / "b/mesh.token").exists() and not list((workdir / "b").glob("*token*"))
    sh(MIDGE, "join", token, *target)
    said = refused(["join", other, *target], 1, "--replace")
    fingerprints = [word for word in said.replace(";", " ").split() if len(word) == 9 and word[4] == "-"]
    assert len(set(fingerprints)) == 2, f"both meshes are named: {said}"
    # What was kept has been damaged since: named, and what to do.
    for kept in (workdir / "b").glob("*token*"):
        kept.write_text("rubbish\n")
    refused(["run", "-p", "0", *target], 1, "token", "midge join TOKEN")
    show(f"{len(rows) + 4} bad tokens, each with a reason")


CONFIGS = [
    (".toml", "[site\n", ":1:"),
    (".toml", "[site]\nname = 5\n", "name"),
    (".toml", "[site]\nnmae = 'x'\n", "nmae"),
    (".toml", "[nothing]\nx = 1\n", "nothing"),
    (".toml", "[[listener]]\nbind = '127.0.0.1:99999'\n", "bind"),
    (".toml", "[[listener]]\nbind = 'nowhere'\n", "bind"),
    (".toml", "[mesh]\nmailbox = ['http://x']\n", "mailbox"),
    (".toml", "[mesh]\nmailbox = ['mqtt://']\n", "mailbox"),
    (".toml", "[mesh]\nstun = [1]\n", "stun"),
    (".toml", "[mesh]\nexport = ['a/#/b']\n", "export"),
    (".toml", "[mesh]\nport = -1\n", "port"),
    (".toml", "[limits]\npacket_max = '1 parsec'\n", "packet_max"),
    (".toml", "[limits]\npacket_max = '900GiB'\n", "packet_max"),
    (".toml", "x = " + "[" * 100_000, ""),
    (".toml", "a = 1\n" * 50_000, ""),
    (".toml", "\0\0\0", ""),
    (".toml", b"[site]\nname = '\xff\xfe'\n", "UTF-8"),
    (".toml", "x" * 2_000_000, "1 MiB"),
    (".conf", "listner 1883\n", "listner"),
    (".conf", "listener\n", "listener"),
    (".conf", "listener abc\n", ":1"),
    (".conf", "allow_anonymous false\n", "allow_anonymous"),
    (".conf", "psk_file /x\n", "psk_file"),
    (".conf", "port 1883 1884 1885\n", "port"),
    (".conf", "include_dir /nowhere\n", "include_dir"),
    (".conf", b"listener 1883\n\xff\xff\n", "UTF-8"),
]


def a_bad_configuration_is_explained(workdir):
    for number, (ending, text, word) in enumerate(CONFIGS):
        path = workdir / f"bad{number}{ending}"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        for words in (["check", path], ["run", "-c", path, "--data", workdir / "d"], ["-c", path]):
            said = refused(words, 3, path.name, word)
            assert len(said) < 50_000, f"{path.name}: {len(said)} characters"
        assert json.loads(sh(MIDGE, "check", "--json", path, check=False).stdout)["ok"] is False
    missing = workdir / "missing.toml"
    refused(["check", missing], 3, str(missing), "-c FILE")
    refused(["run", "-c", workdir, "--data", workdir / "d"], 3, str(workdir))
    refused(["check", "/dev/zero"], 3, "/dev/zero")
    assert not (workdir / "d").exists(), "a site was begun with a bad configuration"
    show(f"{len(CONFIGS) + 3} bad configurations, each with its file and a reason")


def bad_words_are_explained(workdir):
    busy = socket.create_server(("127.0.0.1", 0))
    taken = busy.getsockname()[1]
    data = workdir / "d"
    (workdir / "file").write_text("x")
    (workdir / "k").mkdir()
    (workdir / "k/site.key").write_text("zz\n")
    rows = [
        (["--nonsense"], 2, ["--nonsense"]),
        (["nonsense"], 2, ["nonsense"]),
        (["run", "-p", "70000"], 2, ["70000"]),
        (["run", "-p", "abc"], 2, ["abc"]),
        (["run", "-c"], 2, ["FILE"]),
        (["run", "-p", taken, "--data", data], 1, [str(taken), "another"]),
        (["run", "-p", "0", "--data", workdir / "file"], 1, [str(workdir / "file"), "--data"]),
        (["run", "-p", "0", "--data", workdir / "k"], 1, ["site.key", "64 hexadecimal"]),
        (["status", "--data", workdir / "nothing"], 1, ["midge run"]),
        (["peers", "--data", workdir / "nothing", "pause", "x"], 1, ["midge run"]),
        (["pub"], 1, ["topic"]),
        (["pub", "-t", "a/#", "-m", "x"], 1, ["a/#", "topic name"]),
        (["pub", "-t", "a", "-m", "x", "-q", "3"], 1, ["write 0, 1 or 2"]),
        (["pub", "-t", "a", "-m", "x", "-p", "1"], 1, ["refused"]),
        (["pub", "-t", "a", "-m", "x", "-h", "nowhere.invalid"], 1, ["nowhere.invalid"]),
        (["pub", "-t", "a", "-f", "/nowhere"], 1, ["/nowhere"]),
        (["pub", "-t", "x" * 70_000, "-m", "x", "-p", taken], 1, ["65535 bytes"]),
        (["sub"], 1, ["topic"]),
        (["sub", "-t", "a/#/b"], 1, ["a/#/b"]),
        (["sub", "-t", "a", "-W", "-1"], 1, ["-1"]),
        (["sub", "-t", "a", "-F", "%"], 1, ["%"]),
    ]
    odd = []
    for words, code, expected in rows:
        try:
            refused(words, code, *expected)
        except AssertionError as error:
            odd.append(str(error))
    busy.close()
    assert not odd, "\n".join(odd)
    show(f"{len(rows)} bad command lines, each with its exit code and a reason")


def garbage_on_the_control_socket_is_answered(workdir):
    site = Alone(workdir)
    site.start()
    path = str(site.data / "midge.sock")
    rng = random.Random(SEED)

    def ask(data, end=True):
        conn = socket.socket(socket.AF_UNIX)
        conn.settimeout(10)
        conn.connect(path)
        with contextlib.suppress(ConnectionError):
            conn.sendall(data)
            if end:
                conn.shutdown(socket.SHUT_WR)
        return conn

    before = site.rss_kb()
    for data in [b"", b"\n", b"{}\n", b"[]\n", b'{"verb":"fly"}\n', b'{"verb":"pause"}\n', b"\xff\xfe\n",
                 b'{"verb":"pause","peer":"nobody"}\n', b"[" * 60_000, b"x" * 1_000_000,
                 *[rng.randbytes(rng.randrange(300)) for _ in range(100)]]:
        conn = ask(data)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while chunk := conn.recv(65536):
                answer += chunk
        conn.close()
        assert not answer or "error" in json.loads(answer), (data[:50], answer)
    silent = [ask(b"", end=False) for _ in range(100)]
    time.sleep(6)
    assert json.loads(sh(MIDGE, "status", "--json", "--data", site.data).stdout)["version"]
    for conn in silent:
        conn.close()
    site.talk("mosquitto_pub", "-t", "kept/x", "-m", "served", "-r", "-q", "1")
    assert retained(site) == {"kept/x": "served"}
    assert site.rss_kb() < before + 10_000 and "panicked" not in site.log.read_text()
    assert stop(site.process) == 0


TESTS = [bad_words_are_explained, a_bad_token_is_explained, a_bad_configuration_is_explained,
         garbage_on_the_control_socket_is_answered, a_damaged_store_starts_with_what_is_good,
         hostile_clients_harm_only_themselves, garbage_datagrams_disturb_nobody,
         garbage_in_the_mailbox_keeps_nobody_apart, who_vanishes_behind_its_last_message_is_noticed,
         memory_is_kept_within_bounds]


if __name__ == "__main__":
    run(TESTS)
