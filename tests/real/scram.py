"""Ring 4: SCRAM-SHA-256 in AUTH packets, by a client that shares no line with midge, and by midge's own.

    python3 tests/real/scram.py [NAME…]     all tests, or those named

The client is made of Python's hashlib and hmac. Only loopback.
"""

import base64
import hashlib
import hmac
import os
import re
import signal
import socket
import struct
import subprocess
import time

from program import MIDGE, free_port
from runner import run

PATIENCE = 20
METHOD = b"SCRAM-SHA-256"



class Site:
    """A midge with three users: two by SCRAM, one by Argon2."""

    def __init__(self, folder):
        self.folder, self.port = folder, free_port()
        self.users = folder / "users"
        self.passwd("-c", "--scram", "anna", "pencil")
        self.passwd("-H", "scram-sha-256", "-I", "4096", "bo=b,", "other")
        self.passwd("carl", "third")
        (folder / "acl").write_text("user anna\ntopic a/#\nuser bo=b,\ntopic b/#\n")
        (folder / "site.toml").write_text(
            f'[access]\npassword_file = "{self.users}"\nacl_file = "{folder}/acl"\n'
            f'[[listener]]\nbind = "127.0.0.1:{self.port}"\n[console]\nbind = "off"\n'
        )
        command = [MIDGE, "-c", folder / "site.toml", "--data", folder / "data"]
        self.process = subprocess.Popen(command, stderr=open(folder / "site.log", "w"))
        end = time.monotonic() + PATIENCE
        while socket.socket().connect_ex(("127.0.0.1", self.port)) != 0:
            assert self.process.poll() is None and time.monotonic() < end, "the site does not start"
            time.sleep(0.02)

    def passwd(self, *words):
        *flags, user, password = words
        subprocess.run([MIDGE, "passwd", "-b", *flags, self.users, user, password], check=True, timeout=60)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        assert self.process.wait(PATIENCE) == 0


def text(data):
    return struct.pack(">H", len(data)) + data


def sized(body):
    """With its length before it, as MQTT writes lengths."""
    assert len(body) < 16_384
    size = bytes([len(body)]) if len(body) < 128 else bytes([len(body) & 127 | 128, len(body) >> 7])
    return size + body


def packet(kind, body):
    return bytes([kind]) + sized(body)


def figure(site, name):
    """A number of `midge status`."""
    command = [MIDGE, "status", "--json", "--data", site.folder / "data"]
    status = subprocess.run(command, capture_output=True, text=True, timeout=30).stdout
    return int(re.search(rf'"{name}": ?(\d+)', status).group(1))


class Client:
    """SCRAM by hand. What is said can be bent on its way."""

    def __init__(self, site, user="anna", password="pencil", bend=lambda step, data: data):
        self.user, self.password, self.bend = user, password, bend
        self.socket = socket.create_connection(("127.0.0.1", site.port), PATIENCE)
        self.socket.settimeout(PATIENCE)
        self.buffer = b""

    def hear(self):
        """Kind, reason and properties of the next packet; None if the connection is over."""
        while True:
            if len(self.buffer) >= 2:
                size, used = self.buffer[1], 2
                if size & 128 and len(self.buffer) >= 3:
                    size, used = size & 127 | self.buffer[2] << 7, 3
                if len(self.buffer) >= used + size:
                    body, kind = self.buffer[used : used + size], self.buffer[0]
                    self.buffer = self.buffer[used + size :]
                    return self.read(kind, body)
            more = self.socket.recv(10_000)
            if not more:
                return None
            self.buffer += more

    def read(self, kind, body):
        if kind not in (0x20, 0xE0, 0xF0):
            return kind, body
        at = 1 if kind == 0x20 else 0
        reason, rest, said = body[at], body[at + 2 :], {}
        while rest:
            if rest[0] in (0x15, 0x16, 0x1F):
                size = struct.unpack(">H", rest[1:3])[0]
                said[rest[0]], rest = rest[3 : 3 + size], rest[3 + size :]
            else:
                rest = rest[{0x21: 3, 0x22: 3, 0x13: 3}[rest[0]] :]
        return kind, reason, said

    def auth(self, reason, data, method=METHOD):
        properties = b"\x15" + text(method) + (b"" if data is None else b"\x16" + text(data))
        self.socket.sendall(packet(0xF0, bytes([reason]) + sized(properties)))

    def first(self):
        self.nonce = base64.b64encode(os.urandom(12))
        name = self.user.replace("=", "=3D").replace(",", "=2C").encode()
        self.bare = b"n=" + name + b",r=" + self.nonce
        return self.bend("first", b"n,," + self.bare)

    def connect(self, client_id=b"raw", method=METHOD):
        properties = b"\x15" + text(method) + b"\x16" + text(self.first())
        body = text(b"MQTT") + b"\x05\x02\x00\x3c" + sized(properties) + text(client_id)
        self.socket.sendall(packet(0x10, body))

    def prove(self, challenge):
        fields = dict(part.split(b"=", 1) for part in challenge.split(b","))
        assert fields[b"r"].startswith(self.nonce) and len(fields[b"r"]) > len(self.nonce)
        salt, rounds = base64.b64decode(fields[b"s"]), int(fields[b"i"])
        salted = hashlib.pbkdf2_hmac("sha256", self.password.encode(), salt, rounds)
        key = hmac.digest(salted, b"Client Key", "sha256")
        without = b"c=biws,r=" + fields[b"r"]
        covered = self.bare + b"," + challenge + b"," + without
        signature = hmac.digest(hashlib.sha256(key).digest(), covered, "sha256")
        proof = bytes(one ^ other for one, other in zip(key, signature))
        server = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), covered, "sha256")
        self.expected = b"v=" + base64.b64encode(server)
        return self.bend("proof", without + b",p=" + base64.b64encode(proof))

    def come_in(self):
        self.connect()
        kind, reason, said = self.hear()
        assert (kind, reason, said[0x15]) == (0xF0, 0x18, METHOD), (kind, reason, said)
        self.auth(0x18, self.prove(said[0x16]))
        return self.hear()


def a_proof_lets_in_as_who_it_proves(folder):
    with Site(folder) as site:
        for user, password, topic in (("anna", "pencil", b"a/x"), ("bo=b,", "other", b"b/x")):
            client = Client(site, user, password)
            kind, reason, said = client.come_in()
            # The server proves that it knows the password, too.
            assert (kind, reason, said[0x15], said[0x16]) == (0x20, 0, METHOD, client.expected), said
            # The access rules know who it is.
            client.socket.sendall(packet(0x82, b"\x00\x01\x00" + text(topic) + b"\x01"))
            assert client.hear() == (0x90, b"\x00\x01\x00\x01")
            client.socket.sendall(packet(0x32, text(topic) + b"\x00\x02\x00hello"))
            heard = [client.hear(), client.hear()]
            assert any(kind & 0xF0 == 0x30 and body.endswith(b"hello") for kind, body in heard), heard
            # Once more, while it is served.
            client.auth(0x19, client.first())
            kind, reason, said = client.hear()
            assert (kind, reason) == (0xF0, 0x18), (kind, reason)
            client.auth(0x18, client.prove(said[0x16]))
            kind, reason, said = client.hear()
            assert (kind, reason, said[0x16]) == (0xF0, 0, client.expected), (kind, reason, said)
            # As somebody else, never.
            client.user = "carl"
            client.auth(0x19, client.first())
            assert client.hear()[:2] == (0xE0, 0x87) and client.hear() is None


def wrong_proofs_wait_and_are_counted(folder):
    with Site(folder) as site:

        def refusal(client):
            began = time.monotonic()
            kind, reason, _ = client.come_in()
            assert kind == 0x20 and client.hear() is None
            return reason, time.monotonic() - began

        for user, password in (("anna", "pen"), ("nobody", "pencil"), ("carl", "third")):
            reason, secs = refusal(Client(site, user, password))
            assert reason == 0x87 and secs > 0.9, (user, reason, secs)
        bent = Client(site, bend=lambda step, data: data.replace(b"c=biws", b"c=eSws") if step == "proof" else data)
        assert refusal(bent)[0] == 0x87
        # Meanwhile the right ones come in at once, and the others are served.
        began = time.monotonic()
        slow = Client(site, "anna", "wrong")
        slow.connect()
        slow.auth(0x18, slow.prove(slow.hear()[2][0x16]))
        assert Client(site).come_in()[1] == 0 and time.monotonic() - began < 0.9
        # So many of one address wait at once; the next is told that the server is busy.
        guessers = [Client(site, "anna", f"guess{number}") for number in range(40)]
        for guesser in guessers:
            guesser.connect()
        proofs = [guesser.prove(guesser.hear()[2][0x16]) for guesser in guessers]
        for guesser, proof in zip(guessers, proofs):
            guesser.auth(0x18, proof)
        time.sleep(0.1)
        late = Client(site, "anna", "guess")
        late.connect()
        assert late.hear()[:2] == (0x20, 0x89)
        assert {guesser.hear()[1] for guesser in guessers} == {0x87}
        assert figure(site, "not_admitted") == 45


def what_is_no_scram_is_refused(folder):
    with Site(folder) as site:
        for method in (b"SCRAM-SHA-1", b"X"):
            client = Client(site)
            client.connect(method=method)
            assert client.hear()[:2] == (0x20, 0x8C) and client.hear() is None
        words = [b"", b"n,,", b"p=tls-unique,,n=anna,r=x", b"\xff" * 10_000, b"n,a=bo,n=anna,r=x"]
        words.append(b"n,,n=anna,r=" + b"x" * 300)
        for data in words:
            client = Client(site, bend=lambda step, said, data=data: data)
            client.connect()
            assert client.hear()[1] in (0x87, 0x82), data[:20]
        # Something else than AUTH, AUTH of another method, AUTH out of turn.
        for wrong in (packet(0xC0, b""), packet(0x82, b"\x00\x01\x00" + text(b"a") + b"\x00")):
            client = Client(site)
            client.connect()
            client.hear()
            client.socket.sendall(wrong)
            assert client.hear()[:2] == (0x20, 0x82) and client.hear() is None
        client = Client(site)
        client.connect()
        client.hear()
        client.auth(0x18, b"x", method=b"Y")
        assert client.hear()[:2] == (0x20, 0x82)
        # A site without passwords for it has no such method.
        site.passwd("-c", "carl", "third")
        site.process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        client = Client(site)
        client.connect()
        assert client.hear()[:2] == (0x20, 0x8C)


def midges_own_clients_prove_themselves(folder):
    with Site(folder) as site:
        common = ["-p", str(site.port), "-u", "anna", "--auth-method", "SCRAM-SHA-256", "-t", "a/own"]

        def midge(verb, *words):
            return subprocess.run([MIDGE, verb, *common, *words], capture_output=True, text=True, timeout=60)

        assert midge("pub", "-P", "pencil", "-m", "by proof", "-r", "-q", "1").returncode == 0
        heard = midge("sub", "-P", "pencil", "-C", "1", "-W", "10")
        assert heard.stdout == "by proof\n", heard
        wrong = midge("pub", "-P", "wrong", "-m", "x")
        assert wrong.returncode == 0x87 and "Not authorized" in wrong.stderr, wrong
        # The same line of the file lets in who says its password.
        said = [MIDGE, "pub", "-p", str(site.port), "-u", "anna", "-P", "pencil", "-t", "a/own", "-m", "x", "-q", "1"]
        assert subprocess.run(said, timeout=60).returncode == 0
        # Whose password has changed goes.
        ear = subprocess.Popen([MIDGE, "sub", *common, "-P", "pencil"], stdout=subprocess.PIPE, text=True)
        assert ear.stdout.readline() == "by proof\n"
        site.passwd("--scram", "anna", "new")
        site.process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        assert midge("pub", "-P", "pencil", "-m", "x").returncode == 0x87
        assert midge("pub", "-P", "new", "-m", "x").returncode == 0
        assert figure(site, "revoked") == 1
        ear.terminate()
        ear.wait(PATIENCE)


if __name__ == "__main__":
    run(
        [
            a_proof_lets_in_as_who_it_proves,
            wrong_proofs_wait_and_are_counted,
            what_is_no_scram_is_refused,
            midges_own_clients_prove_themselves,
        ]
    )
