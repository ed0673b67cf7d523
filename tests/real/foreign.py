"""Ring 4: clients of others over every kind of listener: mosquitto's, paho for Python, aiomqtt, MQTT.js in Node and in
Chromium, rumqttc, MicroPython's umqtt.

    python3 tests/real/foreign.py [NAME…]     all tests, or those named

Each connects, exchanges QoS 0 to 2, retains, leaves a will, resumes its session, and passes MQTT 5 properties on, as far
as it can. Needs openssl, mosquitto's clients, paho-mqtt, aiomqtt, node with the package mqtt (NODE_PATH says where),
chromium, cargo, and umqtt/simple.py beside the target directory's release folder. Only loopback.
"""

import asyncio
import binascii
import http.server
import importlib.util
import json
import os
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import aiomqtt
import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from program import MIDGE, free_port
from runner import run

TARGET = Path(MIDGE).resolve().parents[1]
PATIENCE = 20
SIZES = [0, 1, 125, 126, 70_000, 1_000_000]
WAYS = ["tcp", "tls", "known", "ws", "wss", "wss-known"]


def sh(*words, **options):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=60, **options)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, words))}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout



def certify(folder, name, subject):
    """NAME.pem and NAME.key, by the authority in ca.pem."""
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", folder / f"{name}.key"]
    if name == "ca":
        sh("openssl", "req", "-x509", *key, "-out", folder / "ca.pem", "-subj", subject, "-days", "30")
        return
    sh("openssl", "req", *key, "-out", folder / f"{name}.csr", "-subj", subject)
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
    signer = ["-CA", folder / "ca.pem", "-CAkey", folder / "ca.key", "-CAcreateserial", "-extfile", folder / "names"]
    sh("openssl", "x509", "-req", "-in", folder / f"{name}.csr", *signer, "-out", folder / f"{name}.pem", "-days", "30")


class Site:
    """A midge that listens in every way, by a mosquitto.conf."""

    def __init__(self, folder):
        self.folder, self.ports = folder, {way: free_port() for way in WAYS}
        for name, subject in [("ca", "/CN=Authority"), ("server", "/CN=localhost"), ("anna", "/O=Boat/CN=anna")]:
            certify(folder, name, subject)
        lines = ["user root", "per_listener_settings true", f"log_dest file {folder}/site.log"]
        for way, port in self.ports.items():
            lines += [f"listener {port} 127.0.0.1", "allow_anonymous true"]
            if way.startswith("ws"):
                lines.append("protocol websockets")
            if way not in ("tcp", "ws"):
                lines += [f"certfile {folder}/server.pem", f"keyfile {folder}/server.key"]
            if way.endswith("known"):
                lines += [f"cafile {folder}/ca.pem", "require_certificate true", "use_identity_as_username true"]
        (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")
        command = [MIDGE, "-c", folder / "mosquitto.conf", "--data", folder / "data"]
        self.process = subprocess.Popen(command, stderr=open(folder / "stderr.log", "w"))
        end = time.monotonic() + PATIENCE
        while socket.socket().connect_ex(("127.0.0.1", self.ports["tcp"])) != 0:
            assert self.process.poll() is None and time.monotonic() < end, "the site does not start"
            time.sleep(0.02)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        assert self.process.wait(PATIENCE) == 0

    def is_known(self, client):
        """Whether the log says that this client came as anna."""
        log = (self.folder / "site.log").read_text()
        return any(f" as {client} " in line and "u'anna'" in line for line in log.splitlines())


class Paho:
    """A client that remembers what it hears."""

    def __init__(self, site, way, name, version=paho.MQTTv5, will=None, clean=True, expiry=0):
        transport = "websockets" if way.startswith("ws") else "tcp"
        options = {} if version == paho.MQTTv5 else {"clean_session": clean}
        api = paho.CallbackAPIVersion.VERSION2
        self.client = paho.Client(api, client_id=name, transport=transport, protocol=version, **options)
        if way not in ("tcp", "ws"):
            pair = {"certfile": site.folder / "anna.pem", "keyfile": site.folder / "anna.key"}
            self.client.tls_set(ca_certs=site.folder / "ca.pem", **(pair if way.endswith("known") else {}))
        if will:
            self.client.will_set(*will)
        self.heard, self.present, self.ready = [], None, threading.Event()
        self.client.on_connect = self._connected
        self.client.on_message = lambda _client, _data, message: self.heard.append(message)
        self.client.on_subscribe = lambda *_: self.ready.set()
        extra = {}
        if version == paho.MQTTv5:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = expiry
            extra = {"clean_start": clean, "properties": properties}
        self.client.connect("localhost", site.ports[way], **extra)
        self.client.loop_start()
        self.until(lambda: self.present is not None, "CONNACK")

    def _connected(self, _client, _data, flags, reason, _properties):
        assert not reason.is_failure, reason
        self.present = flags.session_present

    def subscribe(self, topic, qos=2):
        self.ready.clear()
        self.client.subscribe(topic, qos)
        assert self.ready.wait(PATIENCE), "SUBACK"

    def until(self, is_true, what):
        end = time.monotonic() + PATIENCE
        while not is_true():
            assert time.monotonic() < end, what
            time.sleep(0.01)

    def vanish(self):
        """Breaks the connection without a word."""
        self.client.on_disconnect = None
        self.client._reconnect_on_failure = False
        self.client._sock_close()
        self.client.loop_stop()

    def leave(self):
        self.client.disconnect()
        self.client.loop_stop()


def paho_on(site, way, version):
    tag = f"{way}-{version}"
    ear = Paho(site, way, f"ear-{tag}", version)
    ear.subscribe(f"{tag}/#")
    mouth = Paho(site, way, f"mouth-{tag}", version, will=(f"{tag}/will", "gone", 1, False))
    sent = [(qos, bytes([qos]) * size) for qos in (0, 1, 2) for size in SIZES]
    for qos, payload in sent:
        mouth.client.publish(f"{tag}/data", payload, qos).wait_for_publish(PATIENCE)
    ear.until(lambda: len(ear.heard) >= len(sent), f"{way}: {len(ear.heard)} of {len(sent)}")
    assert [(message.qos, message.payload) for message in ear.heard] == sent, way
    if version == paho.MQTTv5:
        properties = Properties(PacketTypes.PUBLISH)
        properties.UserProperty = [("a", "b"), ("a", "c")]
        properties.ContentType, properties.ResponseTopic, properties.CorrelationData = "text", "r", b"\x00\xff"
        mouth.client.publish(f"{tag}/props", "x", 1, properties=properties)
        ear.until(lambda: ear.heard[-1].topic == f"{tag}/props", "properties")
        got = ear.heard[-1].properties
        found = (got.UserProperty, got.ContentType, got.ResponseTopic, got.CorrelationData)
        assert found == ([("a", "b"), ("a", "c")], "text", "r", b"\x00\xff"), found
    mouth.client.publish(f"{tag}/kept", "value", 1, retain=True).wait_for_publish(PATIENCE)
    late = Paho(site, way, f"late-{tag}", version)
    late.subscribe(f"{tag}/kept")
    late.until(lambda: late.heard, "retained")
    assert late.heard[0].retain and late.heard[0].payload == b"value"
    mouth.vanish()
    ear.until(lambda: any(message.topic == f"{tag}/will" for message in ear.heard), f"{way}: the will")
    sleeper = Paho(site, way, f"sleeper-{tag}", version, clean=False, expiry=600)
    assert not sleeper.present
    sleeper.subscribe(f"{tag}/sleep", 1)
    sleeper.leave()
    late.client.publish(f"{tag}/sleep", "wake", 1).wait_for_publish(PATIENCE)
    again = Paho(site, way, f"sleeper-{tag}", version, clean=False, expiry=600)
    again.until(lambda: again.heard, "the queue")
    assert again.present and again.heard[0].payload == b"wake"
    if way.endswith("known"):
        assert site.is_known(f"ear-{tag}"), "the certificate's name"
    for client in (ear, late, again):
        client.leave()


def paho_in_every_way(folder):
    with Site(folder) as site:
        for way in WAYS:
            for version in (paho.MQTTv311, paho.MQTTv5):
                paho_on(site, way, version)


def mosquittos_clients_over_tls(folder):
    with Site(folder) as site:
        flags = {"tls": ["--cafile", folder / "ca.pem"]}
        flags["known"] = flags["tls"] + ["--cert", folder / "anna.pem", "--key", folder / "anna.key"]
        for way in ("tls", "known"):
            for tls in ("tlsv1.2", "tlsv1.3"):
                common = ["-h", "localhost", "-p", site.ports[way], *flags[way], "--tls-version", tls, "-V", "mqttv5"]
                sh("mosquitto_pub", *common, "-t", f"m/{way}", "-m", tls, "-q", "2", "-r")
                got = sh("mosquitto_sub", *common, "-t", f"m/{way}", "-C", "1", "-W", PATIENCE, "-q", "2")
                assert got == f"{tls}\n", got
        bare = ["mosquitto_pub", "-h", "localhost", "-p", str(site.ports["known"]), "--cafile", str(folder / "ca.pem")]
        assert subprocess.run([*bare, "-t", "m", "-m", "x"], capture_output=True, timeout=30).returncode != 0
        assert "peer sent no certificates" in (folder / "site.log").read_text()


def midges_own_clients_over_tls(folder):
    with Site(folder) as site:
        common = ["-h", "localhost", "-p", site.ports["known"], "--cafile", folder / "ca.pem"]
        common += ["--cert", folder / "anna.pem", "--key", folder / "anna.key"]
        sh(MIDGE, "pub", *common, "-t", "own/t", "-m", "x" * 100_000, "-q", "2", "-r")
        assert sh(MIDGE, "sub", *common, "-t", "own/t", "-C", "1", "-W", PATIENCE) == "x" * 100_000 + "\n"
        wrong = subprocess.run(
            [MIDGE, "pub", "-h", "localhost", "-p", str(site.ports["tls"]), "--tls-use-os-certs", "-t", "a", "-n"],
            capture_output=True, text=True, timeout=30,
        )
        assert wrong.returncode != 0 and "UnknownIssuer" in wrong.stderr, wrong


def mqtt_js_in_every_way(folder):
    script = Path(__file__).with_name("foreign.cjs")
    with Site(folder) as site:
        for way in WAYS:
            for version in (4, 5):
                print("  ", way, version, flush=True)
                sh("node", script, json.dumps({"way": way, "port": site.ports[way], "version": version, "pem": str(folder)}))
            if way.endswith("known"):
                assert site.is_known(f"ear-{way}-5"), "the certificate's name"


async def aiomqtt_on(site, way, version):
    tag, pem = f"aio-{way}-{int(version)}", site.folder
    context = None
    if way not in ("tcp", "ws"):
        context = ssl.create_default_context(cafile=pem / "ca.pem")
        if way.endswith("known"):
            context.load_cert_chain(pem / "anna.pem", pem / "anna.key")
    five = version == aiomqtt.ProtocolVersion.V5

    def client(name, lasting=False, **more):
        if five:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = 600 if lasting else 0
            more |= {"clean_start": not lasting, "properties": properties}
        else:
            more |= {"clean_session": not lasting}
        transport = "websockets" if way.startswith("ws") else "tcp"
        return aiomqtt.Client("localhost", site.ports[way], identifier=f"{name}-{tag}", protocol=version,
                              transport=transport, tls_context=context, timeout=PATIENCE, **more)

    async def message(of):
        return await asyncio.wait_for(anext(aiter(of.messages)), PATIENCE)

    async with client("ear") as ear, client("late") as late:
        await ear.subscribe(f"{tag}/#", qos=2)
        properties = None
        if five:
            properties = Properties(PacketTypes.PUBLISH)
            properties.UserProperty = [("a", "b"), ("a", "c")]
        async with client("mouth") as mouth:
            for qos in (0, 1, 2):
                for size in SIZES:
                    await mouth.publish(f"{tag}/data", b"x" * size, qos, properties=properties)
                    heard = await message(ear)
                    assert (heard.qos, heard.payload) == (qos, b"x" * size), (tag, qos, size)
                    assert not five or heard.properties.UserProperty == [("a", "b"), ("a", "c")]
            await mouth.publish(f"{tag}/kept", "value", 1, retain=True)
        assert (await message(ear)).payload == b"value"
        await late.subscribe(f"{tag}/kept")
        heard = await message(late)
        assert heard.retain and heard.payload == b"value"
        doomed = client("doomed", will=aiomqtt.Will(f"{tag}/will", "gone", 1))
        await doomed.__aenter__()
        doomed._client._sock_close()
        assert str((await message(ear)).topic) == f"{tag}/will"
        async with client("sleeper", lasting=True) as sleeper:
            await sleeper.subscribe(f"{tag}/sleep", qos=1)
        await late.publish(f"{tag}/sleep", "wake", 1)
        async with client("sleeper", lasting=True) as sleeper:
            assert (await message(sleeper)).payload == b"wake"


def aiomqtt_in_every_way(folder):
    with Site(folder) as site:
        for way in WAYS:
            for version in (aiomqtt.ProtocolVersion.V311, aiomqtt.ProtocolVersion.V5):
                asyncio.run(aiomqtt_on(site, way, version))
            if way.endswith("known"):
                assert site.is_known(f"ear-aio-{way}-5"), "the certificate's name"


def rumqttc_in_every_way(folder):
    crate = Path(__file__).resolve().parents[1] / "rumqttc"
    built = ["cargo", "build", "--quiet", "--locked", "--manifest-path", crate / "Cargo.toml", "--target-dir"]
    environment = {name: value for name, value in os.environ.items() if name != "CARGO_TARGET_DIR"}
    subprocess.run([*map(str, built), str(TARGET / "rumqttc")], check=True, env=environment)
    with Site(folder) as site:
        for way in WAYS:
            sh(TARGET / "rumqttc/debug/midge-test-rumqttc", way, site.ports[way], folder)
            if way.endswith("known"):
                assert site.is_known(f"ear-rumqttc-v5-{way}"), "the certificate's name"


class Page(http.server.BaseHTTPRequestHandler):
    """Gives the browser its page, and takes what the page says of its test."""

    def do_GET(self):
        here = Path(__file__).parent
        found = {"/": here / "foreign.html", "/mqtt.js": Path(os.environ["NODE_PATH"]) / "mqtt/dist/mqtt.min.js"}
        path = self.path.split("?")[0]
        if path not in found:
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Type", "text/html" if path == "/" else "text/javascript")
        self.end_headers()
        self.wfile.write(found[path].read_bytes())

    def do_POST(self):
        self.server.verdict = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.send_response(204)
        self.end_headers()
        self.server.done.set()

    def log_message(self, *_):
        pass


def mqtt_js_in_chromium(folder):
    """The page speaks over WebSockets from a real browser, versions 3.1.1 and 5, with and without TLS."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
             "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
             # The authority is the test's own: that its chain is right is asserted by the other clients.
             "--ignore-certificate-errors"]
    with Site(folder) as site:
        for way in ("ws", "wss"):
            for version in (4, 5):
                server.done, server.verdict = threading.Event(), None
                page = f"http://127.0.0.1:{server.server_port}/?way={way}&port={site.ports[way]}&version={version}"
                with open(folder / "chromium.log", "a") as log:
                    profile = folder / f"profile-{way}-{version}"
                    browser = subprocess.Popen(["chromium", *flags, f"--user-data-dir={profile}", page],
                                               stdout=log, stderr=log)
                    try:
                        assert server.done.wait(60), f"{way} {version}: the page says nothing"
                    finally:
                        browser.terminate()
                        browser.wait(PATIENCE)
                assert server.verdict == "ok", f"{way} {version}: {server.verdict}"
        log = (folder / "site.log").read_text()
        assert all(f"as ear-{way}-{version} " in log for way in ("ws", "wss") for version in (4, 5)), "who came"
    server.shutdown()
    for profile in folder.glob("profile-*"):
        shutil.rmtree(profile, ignore_errors=True)


class Stream:
    """A socket with the methods that MicroPython's have."""

    def __init__(self):
        self.socket = socket.socket()

    def connect(self, address):
        self.socket.connect(address)
        self.socket.settimeout(PATIENCE)

    def setblocking(self, blocks):
        self.socket.settimeout(PATIENCE if blocks else 0)

    def read(self, count):
        data = b""
        while len(data) < count:
            try:
                more = self.socket.recv(count - len(data))
            except BlockingIOError:
                return None
            if not more:
                break
            data += more
        return data

    def write(self, data, count=None):
        self.socket.sendall(bytes(data)[:count])

    def close(self):
        self.socket.close()


def micropythons_umqtt(folder):
    """The source that boards run, byte by byte as they write, on this Python: only its imports are stood in for."""
    sockets = types.ModuleType("usocket")
    sockets.socket, sockets.getaddrinfo = Stream, socket.getaddrinfo
    sys.modules.update(usocket=sockets, ustruct=struct, ubinascii=binascii)
    spec = importlib.util.spec_from_file_location("umqtt_simple", TARGET / "umqtt/simple.py")
    umqtt = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(umqtt)

    with Site(folder) as site:
        def client(name, clean=True, will=None):
            made = umqtt.MQTTClient(name, "127.0.0.1", site.ports["tcp"], keepalive=60)
            made.heard = []
            made.set_callback(lambda topic, payload: made.heard.append((topic, payload)))
            if will:
                made.set_last_will(*will)
            return made, made.connect(clean_session=clean)

        ear, _ = client(b"ear")
        ear.subscribe(b"u/#", qos=1)
        mouth, _ = client(b"mouth", will=(b"u/will", b"gone", False, 1))
        for qos in (0, 1):
            for size in (0, 1, 125, 126, 20_000):
                mouth.publish(b"u/data", b"x" * size, qos=qos)
                ear.wait_msg()
                assert ear.heard[-1] == (b"u/data", b"x" * size), (qos, size, ear.heard[-1][0])
        mouth.publish(b"u/kept", b"value", retain=True, qos=1)
        ear.wait_msg()
        late, _ = client(b"late")
        late.subscribe(b"u/kept")
        late.wait_msg()
        assert late.heard == [(b"u/kept", b"value")]
        mouth.sock.close()
        ear.wait_msg()
        assert ear.heard[-1] == (b"u/will", b"gone")
        sleeper, present = client(b"sleeper", clean=False)
        assert not present
        sleeper.subscribe(b"u/sleep", qos=1)
        sleeper.disconnect()
        late.publish(b"u/sleep", b"wake", qos=1)
        sleeper, present = client(b"sleeper", clean=False)
        assert present
        sleeper.wait_msg()
        assert sleeper.heard == [(b"u/sleep", b"wake")]
        late.ping()
        assert late.wait_msg() is None
        for each in (ear, late, sleeper):
            each.disconnect()


def connack(port, version=5, keep_alive=60, client_id=b"raw", properties=b""):
    """What CONNECT is answered: flags and reason, then the properties of MQTT 5 by their identifiers."""
    body = b"\x00\x04MQTT" + bytes([version, 2]) + keep_alive.to_bytes(2, "big")
    if version == 5:
        body += bytes([len(properties)]) + properties
    body += len(client_id).to_bytes(2, "big") + client_id
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as raw:
        raw.sendall(bytes([0x10, len(body)]) + body)
        answer = raw.recv(1_000)
    assert answer[0] == 0x20 and answer[1] == len(answer) - 2, answer.hex(" ")
    said, rest = {"flags": answer[2], "reason": answer[3]}, answer[5:]
    while rest:
        # The Assigned Client Identifier is text; the other properties that come here are numbers.
        size = {0x11: 4, 0x21: 2, 0x22: 2, 0x13: 2, 0x27: 4}.get(rest[0], 1)
        size = 2 + int.from_bytes(rest[1:3], "big") if rest[0] == 0x12 else size
        said[rest[0]] = "text" if rest[0] == 0x12 else rest[1 : 1 + size].hex()
        rest = rest[1 + size :]
    return said


def connack_is_mosquittos(folder):
    """By default, and with the same words about it in the same file."""
    asked = [{}, {"keep_alive": 0}, {"keep_alive": 200}, {"client_id": b""}, {"version": 4}, {"version": 4, "keep_alive": 0}]
    asked += [{"properties": bytes.fromhex(secs)} for secs in ("1100000064", "11ffffffff")]
    words = ["", "max_inflight_messages 7", "max_keepalive 100", "max_packet_size 5000", "retain_available false"]
    for number, word in enumerate(words):
        answers = {}
        for name, program in (("mosquitto", ["mosquitto"]), ("midge", [MIDGE, "--data", folder / f"data{number}"])):
            port = free_port()
            conf = folder / f"{name}{number}.conf"
            conf.write_text(f"user root\nlistener {port} 127.0.0.1\nallow_anonymous true\n{word}\n")
            broker = subprocess.Popen([*program, "-c", conf], stderr=subprocess.DEVNULL)
            end = time.monotonic() + PATIENCE
            while socket.socket().connect_ex(("127.0.0.1", port)) != 0:
                assert broker.poll() is None and time.monotonic() < end, f"{name} does not start"
                time.sleep(0.02)
            answers[name] = [connack(port, **question) for question in asked]
            broker.terminate()
            broker.wait(PATIENCE)
        assert answers["midge"] == answers["mosquitto"], (word, answers)
        if not word:
            assert answers["midge"][0] == {"flags": 0, "reason": 0, 0x21: "0014", 0x22: "000a"}, answers


if __name__ == "__main__":
    run([connack_is_mosquittos, paho_in_every_way, aiomqtt_in_every_way, mosquittos_clients_over_tls,
         midges_own_clients_over_tls, mqtt_js_in_every_way, mqtt_js_in_chromium, rumqttc_in_every_way,
         micropythons_umqtt])
