"""What a site says on the local network by multicast DNS, heard on the wire: two machines on one cable.

    python3 tests/real/mdns.py [NAME…]

Needs root, iproute2 and openssl. Nothing leaves the two network namespaces."""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time

from program import MIDGE

GROUP, PORT = "224.0.0.251", 5353
SITE, OWN, GUEST = "10.77.0.1", "192.168.4.1", "10.77.0.2"
A, PTR, SRV = 1, 12, 33


# The asker ------------------------------------------------------------------------------------------------------


def encode(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def decode(packet, at):
    """A name and where it ends."""
    labels, end = [], None
    while packet[at]:
        if packet[at] >= 0xC0:
            end = end or at + 2
            at = struct.unpack_from("!H", packet, at)[0] & 0x3FFF
        else:
            labels.append(packet[at + 1 : at + 1 + packet[at]].decode())
            at += 1 + packet[at]
    return ".".join(labels), end or at + 1


def answers(packet):
    """Every record of a packet as name, type, time to live and what it says."""
    questions, *counts = struct.unpack_from("!4H", packet, 4)
    at = 12
    for _ in range(questions):
        at = decode(packet, at)[1] + 4
    for _ in range(sum(counts)):
        name, at = decode(packet, at)
        kind, _, ttl, length = struct.unpack_from("!HHIH", packet, at)
        at += 10
        if kind == A:
            yield name, kind, ttl, socket.inet_ntoa(packet[at : at + 4])
        elif kind == PTR:
            yield name, kind, ttl, decode(packet, at)[0]
        elif kind == SRV:
            yield name, kind, ttl, [struct.unpack_from("!H", packet, at + 4)[0], decode(packet, at + 6)[0]]
        at += length


def ask(own, seconds, questions):
    """Asks on the cable, again and again, and prints whatever is answered meanwhile."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as conn:
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        conn.bind(("", PORT))
        conn.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(own))
        membership = socket.inet_aton(GROUP) + socket.inet_aton(own)
        conn.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        until, next_question, heard = time.monotonic() + seconds, 0, []
        while (now := time.monotonic()) < until:
            if now >= next_question:
                packet = struct.pack("!6H", 0, 0, len(questions), 0, 0, 0)
                packet += b"".join(encode(name) + struct.pack("!HH", kind, 1) for name, kind in questions)
                conn.sendto(packet, (GROUP, PORT))
                next_question = now + 1
            conn.settimeout(0.2)
            try:
                packet, (sender, _) = conn.recvfrom(9000)
            except TimeoutError:
                continue
            if sender != own:
                heard += [answer for answer in answers(packet) if answer not in heard]
        print(json.dumps(heard))


# The machines ---------------------------------------------------------------------------------------------------


def sh(*words, check=True):
    return subprocess.run([str(word) for word in words], check=check, capture_output=True, text=True)


class Cable:
    """Two namespaces and what joins them; the site's side has a network of its own besides."""

    def __init__(self):
        tag = f"mg{os.getpid() % 100000}"
        self.site, self.guest = f"{tag}-mdns-a", f"{tag}-mdns-b"

    def __enter__(self):
        for space in (self.site, self.guest):
            sh("ip", "netns", "add", space)
            sh("ip", "-n", space, "link", "set", "lo", "up")
        for link, (here, there) in {"eth0": (SITE, GUEST), "ap0": (OWN, "192.168.4.2")}.items():
            sh("ip", "link", "add", link, "netns", self.site, "type", "veth", "peer", "name", link, "netns", self.guest)
            for space, address in ((self.site, here), (self.guest, there)):
                sh("ip", "-n", space, "addr", "add", f"{address}/24", "dev", link)
                sh("ip", "-n", space, "link", "set", link, "up")
        return self

    def __exit__(self, *_):
        for space in (self.site, self.guest):
            sh("ip", "netns", "del", space, check=False)

    def ask(self, own, *questions, seconds=4):
        words = [sys.executable, __file__, "--ask", own, str(seconds), json.dumps(questions)]
        return [tuple(record) for record in json.loads(sh("ip", "netns", "exec", self.guest, *words).stdout)]


class Site:
    def __init__(self, cable, workdir, more=""):
        sh("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
           "-subj", "/CN=mqtt.local", "-keyout", workdir / "key.pem", "-out", workdir / "cert.pem")
        conf, self.log = workdir / "site.toml", workdir / "site.log"
        self.data = workdir / "data"
        conf.write_text(f"""[site]
name = "cabin"
[[listener]]
bind = "0.0.0.0:1884"
allow_anonymous = true
[[listener]]
bind = "0.0.0.0:8883"
allow_anonymous = true
[listener.tls]
cert = "{workdir}/cert.pem"
key = "{workdir}/key.pem"
[[listener]]
bind = "127.0.0.1:1999"
[console]
bind = "0.0.0.0:7777"
access = "both"
{more}
""")
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", cable.site, MIDGE, "run", "-c", str(conf), "--data", str(self.data)],
                stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        while self.say("time").returncode != 0:
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)

    def say(self, *lines):
        text = "".join(f"{line}\n" for line in (*lines, "quit"))
        return subprocess.run([MIDGE, "console", "--data", str(self.data)], input=text, capture_output=True, text=True)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(20) == 0
        assert "panicked" not in self.log.read_text()


SERVICES = {"_mqtt._tcp.local": 1884, "_secure-mqtt._tcp.local": 8883, "_telnet._tcp.local": 7777}


def check_announced(heard, name, address):
    """Each service with its instance, port and host, and the address of that host; nothing else."""
    instances = {record[0]: record[3] for record in heard if record[1] == PTR and record[0] in SERVICES}
    assert set(instances) == set(SERVICES), heard
    places = {record[0]: tuple(record[3]) for record in heard if record[1] == SRV}
    assert places == {instances[service]: (port, f"{name}.local") for service, port in SERVICES.items()}, heard
    assert all(instance.startswith("cabin") for instance in instances.values()), instances
    addresses = {record[3] for record in heard if record[1] == A and record[0] == f"{name}.local"}
    assert addresses == {address}, heard


def the_modes_of_the_firmware(workdir):
    questions = [(name, PTR) for name in SERVICES] + [("mqtt.local", A)]
    with Cable() as cable:
        site = Site(cable, workdir)
        assert cable.ask(GUEST, *questions, seconds=2) == [], "mode 0 says nothing"
        assert "mDNS mode set to 1" in site.say("set mdns_mode 1").stdout
        check_announced(cable.ask(GUEST, *questions), "mqtt", SITE)
        assert cable.ask("192.168.4.2", *questions, seconds=2) == [], "mode 1 says nothing on the own network"
        assert "mDNS mode set to 2" in site.say("set mdns_mode 2").stdout
        time.sleep(1)
        check_announced(cable.ask("192.168.4.2", *questions), "mqtt", OWN)
        assert cable.ask(GUEST, *questions, seconds=2) == [], "mode 2 says nothing elsewhere"
        site.say("set mdns_mode 0")
        time.sleep(1)
        for own in (GUEST, "192.168.4.2"):
            assert cable.ask(own, *questions, seconds=2) == [], "silent again"
        # Saved, it is so after a restart.
        site.say("set mdns_mode 1", "save", "reset")
        time.sleep(1)
        check_announced(cable.ask(GUEST, ("mqtt.local", A), *questions), "mqtt", SITE)
        site.stop()


def the_words_of_the_file(workdir):
    questions = [(name, PTR) for name in SERVICES] + [("boat.local", A)]
    with Cable() as cable:
        site = Site(cable, workdir, '[mdns]\nname = "boat"\ninterfaces = ["eth0"]')
        check_announced(cable.ask(GUEST, *questions), "boat", SITE)
        assert "mDNS: STA interface" in site.say("show config").stdout
        site.stop()
    with Cable() as cable:
        site = Site(cable, workdir)
        site.say("set network 10.9.9.0", "set mdns_mode 2")
        assert "10.9.9.0/24" in site.log.read_text(), "an interface that is not there is named"
        site.stop()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--ask"]:
        ask(sys.argv[2], float(sys.argv[3]), json.loads(sys.argv[4]))
    else:
        from runner import run

        run([the_modes_of_the_firmware, the_words_of_the_file])
