"""Ring 4: bridges between midge and mosquitto, and peers that are no brokers at all.

    python3 tests/real/bridges.py [NAME…]     all tests, or those named

Needs mosquitto, openssl and paho-mqtt. Only loopback.
"""

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import threading
import time

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from foreign import certify, sh
from program import MIDGE, free_port
from runner import run

PATIENCE = 30
V31, V311, V5 = paho.MQTTv31, paho.MQTTv311, paho.MQTTv5
VERSIONS = {V31: "mqttv31", V311: "mqttv311", V5: "mqttv50"}


def until(is_true, what, patience=PATIENCE):
    end = time.monotonic() + patience
    while not is_true():
        assert time.monotonic() < end, what() if callable(what) else what
        time.sleep(0.02)


class Broker:
    """A program with a mosquitto.conf."""

    def __init__(self, folder, name, *lines, port=None):
        self.folder, self.name, self.port = folder, name, port or free_port()
        self.conf, self.process = folder / f"{name}.conf", None
        self.data = folder / f"{name}-data"
        self.data.mkdir(exist_ok=True)
        self.write(*lines)

    def write(self, *lines):
        head = [f"listener {self.port} 127.0.0.1", "allow_anonymous true", f"log_dest file {self.folder}/{self.name}.log",
                "log_type all", "max_queued_messages 100000", "user root"]
        self.conf.write_text("\n".join([*head, *self.own(), *lines]) + "\n")

    def start(self):
        with (self.folder / f"{self.name}-stderr.log").open("a") as stderr:
            self.process = subprocess.Popen([str(word) for word in self.command()], stderr=stderr, stdout=stderr)
        until(lambda: self.answers(), f"{self.name} does not start")
        return self

    def answers(self):
        assert self.process.poll() is None, f"{self.name} has ended"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE)

    def kill(self):
        self.process.kill()
        self.process.wait()


class Mosquitto(Broker):
    def own(self):
        return ["persistence true", f"persistence_location {self.data}/", "sys_interval 1"]

    def command(self):
        return [shutil.which("mosquitto", path="/usr/sbin:/usr/bin"), "-c", self.conf]


class Midge(Broker):
    def own(self):
        return []

    def command(self):
        return [MIDGE, "-c", self.conf, "--data", self.data]

    def answers(self):
        """Ports are open before the control socket is."""
        asked = [MIDGE, "status", "--data", self.data]
        return super().answers() and subprocess.run(asked, capture_output=True, timeout=60).returncode == 0

    def bridges(self):
        return json.loads(sh(MIDGE, "status", "--json", "--data", self.data))["bridges"]

    def clients(self):
        return sh(MIDGE, "client", "ls", "--data", self.data)

    def reload(self):
        sh(MIDGE, "reload", "--data", self.data)

    def await_bridge(self, connected=True):
        def is_so():
            bridges = self.bridges()
            return bool(bridges) and all(bridge["connected"] == connected for bridge in bridges)

        until(is_so, lambda: f"connected: {connected}; {self.bridges()}")


def connection(peer, *topics, name="b", version=V311, extra=()):
    """The lines of a bridge to `peer`."""
    lines = [f"connection {name}", f"address 127.0.0.1:{peer.port}", f"remote_clientid {name}-id",
             f"bridge_protocol_version {VERSIONS[version]}", "restart_timeout 1"]
    return [*lines, *(f"topic {topic}" for topic in topics), *extra]


class Client:
    """A client that remembers what it hears, and comes back when its connection breaks."""

    def __init__(self, broker, name, *topics, version=V311, clean=True):
        options = {} if version == V5 else {"clean_session": clean}
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=name, protocol=version, **options)
        self.client.reconnect_delay_set(0.1, 0.5)
        self.client.max_queued_messages_set(0)
        self.heard, self.lock, self.subscribed, self.topics = [], threading.Lock(), threading.Event(), topics
        self.client.on_connect = lambda client, *_: topics and client.subscribe([(topic, 2) for topic in topics])
        self.client.on_subscribe = lambda *_: self.subscribed.set()
        self.client.on_message = lambda _client, _data, message: self.heard.append(message)
        self.client.connect("127.0.0.1", broker.port)
        self.client.loop_start()
        until(self.client.is_connected, f"{name} is not let in")
        assert not topics or self.subscribed.wait(PATIENCE), "no SUBACK"

    def publish(self, topic, payload, qos=0, retain=False, properties=None):
        info = self.client.publish(topic, payload, qos, retain, properties)
        if qos > 0:
            info.wait_for_publish(PATIENCE)
            assert info.is_published(), f"{topic} was not acknowledged"

    def has(self, topic, payload):
        return [message for message in self.heard if message.topic == topic and message.payload == payload.encode()]

    def wait(self, topic, payload):
        until(lambda: self.has(topic, payload), lambda: f"{topic} {payload} is missing: {self.all()}")
        return self.has(topic, payload)[0]

    def all(self):
        return [(message.topic, message.payload.decode(errors="replace")) for message in self.heard[-40:]]

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


def both_ways_under_prefixes(folder):
    """In, out and both, under every version, QoS and flag."""
    for version in VERSIONS:
        there = Mosquitto(folder, f"mosquitto-{version}").start()
        lines = connection(there, "o/# out 2 here/ there/", "i/# in 2 here/ there/", "b/# both 2", '"" both 1 one/here one/there',
                           version=version)
        here = Midge(folder, f"midge-{version}", *lines).start()
        ear_there, ear_here = Client(there, "ear", "#", version=version), Client(here, "ear", "#", version=version)
        mouth_there, mouth_here = Client(there, "mouth", version=version), Client(here, "mouth", version=version)
        here.await_bridge()
        for qos in (0, 1, 2):
            word = f"{version}-{qos}"
            mouth_here.publish("here/o/x", word, qos)
            assert ear_there.wait("there/o/x", word).qos == qos
            mouth_there.publish("there/i/x", word, qos)
            assert ear_here.wait("here/i/x", word).qos == qos
            mouth_here.publish("b/x", f"{word}>", qos)
            ear_there.wait("b/x", f"{word}>")
            mouth_there.publish("b/x", f"{word}<", qos)
            ear_here.wait("b/x", f"{word}<")
        mouth_here.publish("one/here", "on")
        ear_there.wait("one/there", "on")
        mouth_there.publish("one/there", "off")
        ear_here.wait("one/here", "off")
        # What is retained is so on the other side, too.
        mouth_here.publish("here/o/kept", "k", 1, True)
        mouth_there.publish("there/i/kept", "k", 1, True)
        ear_there.wait("there/o/kept", "k"), ear_here.wait("here/i/kept", "k")
        late_there, late_here = Client(there, "late", "there/#"), Client(here, "late", "here/#")
        assert late_there.wait("there/o/kept", "k").retain and late_here.wait("here/i/kept", "k").retain
        mouth_here.publish("elsewhere", "x", 1), mouth_there.publish("elsewhere", "y", 1)
        time.sleep(0.3)
        assert not ear_there.has("elsewhere", "x") and not ear_here.has("elsewhere", "y"), "what no rule has passed"
        for ear, word in ((ear_there, "2>"), (ear_here, "2<")):
            assert len(ear.has("b/x", f"{version}-{word}")) == 1, "an echo came back"
        here.stop(), there.stop()


def properties_of_version_5(folder):
    there = Mosquitto(folder, "mosquitto").start()
    here = Midge(folder, "midge", *connection(there, "# both 1", version=V5)).start()
    ears = {"out": Client(there, "ear", "p/#", version=V5), "in": Client(here, "ear", "p/#", version=V5)}
    mouths = {"out": Client(here, "mouth", version=V5), "in": Client(there, "mouth", version=V5)}
    here.await_bridge()
    for way, ear in ears.items():
        said = Properties(PacketTypes.PUBLISH)
        said.ContentType, said.ResponseTopic, said.CorrelationData = "text/x", "p/answer", b"77"
        said.UserProperty, said.MessageExpiryInterval = [("a", "1"), ("a", "2")], 60
        said.PayloadFormatIndicator = 1
        mouths[way].publish(f"p/{way}", "x", 1, properties=said)
        heard = ear.wait(f"p/{way}", "x").properties
        found = (heard.ContentType, heard.ResponseTopic, heard.CorrelationData, heard.UserProperty)
        assert found == ("text/x", "p/answer", b"77", [("a", "1"), ("a", "2")]), f"{way}: {heard}"
        assert heard.MessageExpiryInterval <= 60 and heard.PayloadFormatIndicator == 1, f"{way}: {heard}"
    here.stop(), there.stop()


def nothing_comes_back(folder):
    """Everything goes both ways, and each message once."""
    for version in (V311, V5):
        there = Mosquitto(folder, f"mosquitto-{version}").start()
        here = Midge(folder, f"midge-{version}", *connection(there, "# both 2", version=version)).start()
        ears = [Client(there, "ear", "n/#"), Client(here, "ear", "n/#")]
        mouths = [Client(there, "mouth"), Client(here, "mouth")]
        here.await_bridge()
        for number in range(60):
            mouths[number % 2].publish(f"n/{number}", "x", number % 3)
        for ear in ears:
            until(lambda: len(ear.heard) >= 60, lambda: f"{len(ear.heard)} of 60")
        time.sleep(0.5)
        for ear in ears:
            assert sorted(message.topic for message in ear.heard) == sorted(f"n/{number}" for number in range(60))
        here.stop(), there.stop()


def tls_and_credentials(folder):
    for name, subject in [("ca", "/CN=Authority"), ("server", "/CN=localhost"), ("bridge", "/CN=bridge")]:
        certify(folder, name, subject)
    sh("mosquitto_passwd", "-b", "-c", folder / "passwords", "anna", "secret")
    sh("chmod", "644", folder / "passwords")
    sealed = free_port()
    there = Mosquitto(folder, "mosquitto", f"listener {sealed} 127.0.0.1", f"cafile {folder}/ca.pem",
                      f"certfile {folder}/server.pem", f"keyfile {folder}/server.key", "require_certificate true",
                      f"password_file {folder}/passwords").start()
    base = ["connection b", f"address localhost:{sealed}", "topic # out 1", "restart_timeout 1"]
    files = [f"bridge_certfile {folder}/bridge.pem", f"bridge_keyfile {folder}/bridge.key"]
    anna = ["remote_username anna", "remote_password secret"]
    here = Midge(folder, "midge", *base, f"bridge_cafile {folder}/ca.pem", *files, *anna).start()
    ear, mouth = Client(there, "ear", "s/#"), Client(here, "mouth")
    here.await_bridge()
    mouth.publish("s/x", "sealed", 1)
    ear.wait("s/x", "sealed")
    for lines, word in [
        ([*base, f"bridge_cafile {folder}/ca.pem", *anna], "ertificate"),
        ([*base, f"bridge_cafile {folder}/server.pem", *files, *anna], "certificate"),
        ([*base, f"bridge_cafile {folder}/nowhere", *files, *anna], "nowhere"),
        ([*base, f"bridge_cafile {folder}/ca.pem", *files, "remote_username anna", "remote_password no"], "efuse"),
    ]:
        here.write(*lines)
        here.reload()
        until(lambda: word in (here.bridges()[0]["trouble"] or ""), lambda: f"{word}: {here.bridges()}")
    here.stop(), there.stop()


def the_state_topic_is_right(folder):
    state = "$SYS/broker/connection/b-id/state"

    def says(broker, word):
        def is_so():
            ear = Client(broker, f"state-{random.random()}", state)
            end = time.monotonic() + 1
            while not ear.heard and time.monotonic() < end:
                time.sleep(0.01)
            ear.close()
            return bool(ear.heard) and ear.heard[0].payload.decode() == word and ear.heard[0].retain

        until(is_so, f"{broker.name} does not say {word}")

    there = Mosquitto(folder, "mosquitto").start()
    here = Midge(folder, "midge", *connection(there, "x out")).start()
    says(here, "1"), says(there, "1")
    here.kill()
    says(there, "0")
    here.start()
    says(there, "1")
    here.stop()
    says(there, "0")
    here.start()
    says(here, "1")
    there.stop()
    says(here, "0")
    there.start()
    says(here, "1"), says(there, "1")
    here.stop(), there.stop()


def restarts_lose_nothing(folder):
    """Either broker ends and comes back while messages pass: none is lost, at QoS 2 none is doubled."""
    for version in (V311, V5):
        there = Mosquitto(folder, f"mosquitto-{version}").start()
        topics = ("out/# out 2", "in/# in 2")
        here = Midge(folder, f"midge-{version}", *connection(there, *topics, version=version)).start()
        here.await_bridge()
        ears = {"out": Client(there, "ear", "out/#", clean=False), "in": Client(here, "ear", "in/#", clean=False)}
        mouths = {"out": Client(here, "mouth", clean=False), "in": Client(there, "mouth", clean=False)}
        running, said = True, {"out": [], "in": []}
        # mosquitto 2.0.11, restarted, loses messages of QoS 1 for clients that are not back yet: none are said then.
        may_speak = {"out": threading.Event(), "in": threading.Event()}
        for event in may_speak.values():
            event.set()

        def speak(way):
            number = 0
            while running:
                may_speak[way].wait()
                qos = 1 + number % 2
                info = mouths[way].client.publish(f"{way}/{qos}", str(number), qos)
                said[way].append((qos, number, info))
                number += 1
                time.sleep(0.003)

        threads = [threading.Thread(target=speak, args=(way,), daemon=True) for way in said]
        for thread in threads:
            thread.start()
        for turn in range(6):
            time.sleep(0.7)
            if turn % 2 == 0:
                here.kill()
                time.sleep(0.2)
                here.start()
            else:
                there.stop()
                may_speak["in"].clear()
                time.sleep(0.2)
                there.start()
                here.await_bridge()
                may_speak["in"].set()
        time.sleep(1)
        running = False
        for thread in threads:
            thread.join()
        for way, ear in ears.items():
            wanted = {(qos, number) for qos, number, _ in said[way]}

            def missing():
                heard = {(int(message.topic[-1]), int(message.payload)) for message in list(ear.heard)}
                return wanted - heard

            until(lambda: not missing(), lambda: f"{version} {way}: {len(missing())} of {len(wanted)}: {sorted(missing())[:9]}",
                  patience=60)
            time.sleep(0.5)
            exactly = [int(message.payload) for message in ear.heard if message.topic.endswith("2")]
            doubles = len(exactly) - len(set(exactly))
            print(f"    {VERSIONS[version]} {way}: {len(wanted)} messages, {doubles} doubled at QoS 2")
            assert doubles == 0, f"{version} {way}"
        here.stop(), there.stop()


def a_queue_survives_and_drains_in_order(folder):
    """The other broker is away, then midge dies, too: all that was acknowledged arrives, in order."""
    there = Mosquitto(folder, "mosquitto")
    here = Midge(folder, "midge", *connection(there, "q/# out 2")).start()
    mouth = Client(here, "mouth")
    infos = [mouth.client.publish("q/x", str(number), 1 + number % 2) for number in range(500)]
    until(lambda: all(info.is_published() for info in infos), "not all acknowledged")
    assert here.bridges()[0]["queued"] == 500, here.bridges()
    here.kill()
    there.start()
    ear = Client(there, "ear", "q/#", clean=False)
    here.start()
    until(lambda: len(ear.heard) >= 500, lambda: f"{len(ear.heard)} of 500")
    assert sorted(int(message.payload) for message in ear.heard) == list(range(500))
    # In the order in which mosquitto got them, which may not be that in which it hands them on.
    log = (folder / "mosquitto.log").read_text()
    ids = [int(mid) for mid in re.findall(r"Received PUBLISH from b-id .*, m(\d+), 'q/x'", log)]
    assert ids == sorted(set(ids)) and len(ids) == 500, ids
    here.stop(), there.stop()


def bridges_come_change_and_go(folder):
    there, other = Mosquitto(folder, "mosquitto").start(), Mosquitto(folder, "other").start()
    here = Midge(folder, "midge").start()
    ear, ear_other, mouth = Client(there, "ear", "#"), Client(other, "ear", "#"), Client(here, "mouth")
    assert here.bridges() == []
    here.write(*connection(there, "a/# out 1"))
    here.reload()
    here.await_bridge()
    mouth.publish("a/1", "one", 1)
    ear.wait("a/1", "one")
    # Another one beside it: the first does not notice.
    here.write(*connection(there, "a/# out 1"), *connection(other, "a/# out 1", name="c"))
    here.reload()
    until(lambda: len(here.bridges()) == 2, "two bridges")
    here.await_bridge()
    log = (folder / "mosquitto.log").read_text()
    assert log.count("as b-id") == 1 and "b-id disconnected" not in log, "the first bridge was disturbed"
    mouth.publish("a/2", "two", 1)
    ear.wait("a/2", "two"), ear_other.wait("a/2", "two")
    # The first changes, the second goes.
    here.write(*connection(there, "z/# out 1"))
    here.reload()
    until(lambda: [bridge["name"] for bridge in here.bridges()] == ["b"], "one bridge")
    here.await_bridge()
    mouth.publish("z/3", "three", 1), mouth.publish("a/3", "three", 1)
    ear.wait("z/3", "three")
    # A file that is wrong changes nothing.
    here.conf.write_text(here.conf.read_text() + "topic a/# sideways\n")
    refused = subprocess.run([MIDGE, "reload", "--data", here.data], capture_output=True, text=True, timeout=60)
    assert refused.returncode != 0 and "sideways" in refused.stderr, refused
    mouth.publish("z/4", "four", 1)
    ear.wait("z/4", "four")
    here.write()
    here.reload()
    until(lambda: here.bridges() == [], "no bridges")
    mouth.publish("z/5", "five", 1)
    time.sleep(0.3)
    assert not ear.has("z/5", "five") and not ear.has("a/3", "three") and not ear_other.has("a/3", "three")
    # Its session went with it: nothing waits for it.
    clients = here.clients()
    assert "local." not in clients, clients
    # So it does when it goes while nobody is there to see.
    here.write(*connection(there, "z/# out 1"))
    here.reload()
    here.await_bridge()
    here.stop()
    here.write()
    here.start()
    clients = here.clients()
    assert "local." not in clients, clients
    here.stop(), there.stop(), other.stop()


def kept(id_):
    """The words of a bridge whose session here has this name, and waits."""
    return ["cleansession false", f"local_clientid {id_}"]


class Deaf:
    """A port where nobody accepts: connections wait for an answer that does not come."""

    def __init__(self):
        self.sockets = [socket.socket() for _ in range(4)]
        first, *callers = self.sockets
        first.bind(("127.0.0.1", 0))
        first.listen(0)
        self.port = first.getsockname()[1]
        for caller in callers:
            caller.setblocking(False)
            caller.connect_ex(first.getsockname())

    def close(self):
        for each in self.sockets:
            each.close()


def another_name_keeps_the_session(folder):
    """What waits for a bridge waits for it under another name, too, also while the old one is still dialling."""
    there, nobody = Mosquitto(folder, "mosquitto").start(), Deaf()
    here = Midge(folder, "midge", *connection(nobody, "a/# out 1", name="old", extra=kept("own"))).start()
    until(lambda: "own" in here.clients(), "the session is there before the link")
    mouth, ear = Client(here, "mouth"), Client(there, "ear", "a/#")
    for number in range(20):
        mouth.publish("a/x", str(number), 1)
    here.write(*connection(there, "a/# out 1", name="new", extra=kept("own")))
    here.reload()
    here.await_bridge()
    mouth.publish("a/x", "20", 1)
    ear.wait("a/x", "20")
    assert [int(message.payload) for message in ear.heard] == list(range(21)), ear.all()
    here.stop(), there.stop(), nobody.close()


def who_goes_while_dialling_leaves_nothing(folder):
    nobody = Deaf()
    here = Midge(folder, "midge", *connection(nobody, "a/# out 1", extra=kept("own"))).start()
    until(lambda: "own" in here.clients(), "the session is there before the link")
    # First it is to be followed by another one with its session, then by nobody.
    here.write(*connection(nobody, "b/# out 1", extra=kept("own")))
    here.reload()
    here.write()
    here.reload()
    until(lambda: "own" not in here.clients(), here.clients)
    here.stop(), nobody.close()


def a_high_threshold_counts_what_may_be_in_flight(folder):
    there = Mosquitto(folder, "mosquitto").start()
    here = Midge(folder, "midge", *connection(there, "l/# out 1", extra=["start_type lazy", "threshold 50"])).start()
    ear, mouth = Client(there, "ear", "l/#"), Client(here, "mouth")
    for number in range(60):
        mouth.publish("l/x", str(number), 1)
    until(lambda: len(ear.heard) == 60, ear.all)
    here.stop(), there.stop()


def what_is_too_large_is_in_nobodys_way(folder):
    for version in (V311, V5):
        place = folder / VERSIONS[version]
        place.mkdir()
        there = Mosquitto(place, "there").start()
        # The bridge would take more than the site does, and says so.
        lines = ["max_packet_size 2000", *connection(there, "# in 2", version=version, extra=["cleansession false"])]
        if version == V311:
            lines.append("bridge_max_packet_size 50000")
        here = Midge(place, "midge", *lines).start()
        here.await_bridge()
        mouth, ear = Client(there, "mouth"), Client(here, "ear", "#")
        for qos in (0, 1, 2):
            mouth.publish(f"q{qos}", "x" * 20_000, qos)
            mouth.publish(f"q{qos}", "small", qos)
            ear.wait(f"q{qos}", "small")
        # MQTT 5 says beforehand what is too large, and is not sent it.
        dropped = here.bridges()[0]["dropped"]
        assert dropped == (3 if version == V311 else 0), here.bridges()
        # One more start: nothing of it comes again.
        here.stop(), here.start()
        here.await_bridge()
        again = Client(here, "again", "#")
        mouth.publish("late", "small", 1)
        again.wait("late", "small")
        assert all(len(message.payload) < 2000 for message in ear.heard + again.heard), ear.all()
        log = (place / "midge.log").read_text()
        assert version == V5 or "its largest packet is 2000 bytes, not 50000" in log and "are dropped" in log, log
        mouth.close(), ear.close(), again.close(), here.stop(), there.stop()


def a_refused_subscription_shows(folder):
    there = Mosquitto(folder, "there").start()
    here = Midge(folder, "midge")
    here.conf = folder / "midge.toml"

    def write(most):
        here.conf.write_text(
            f"""
            [[listener]]
            bind = "127.0.0.1:{here.port}"
            [limits]
            subscriptions_per_client_max = {most}
            [console]
            bind = "off"
            [[bridge]]
            name = "b"
            address = "127.0.0.1:{there.port}"
            topics = ["a out", "b out"]
            """
        )

    write(1)
    here.start()
    here.await_bridge()
    words = "this site refuses the subscription to b: "
    until(lambda: (here.bridges()[0]["trouble"] or "").startswith(words), lambda: here.bridges())
    assert f"connected, but {words}" in sh(MIDGE, "status", "--data", here.data)
    assert (folder / "midge-stderr.log").read_text().count(words) == 1
    write(2)
    here.reload()
    here.stop(), here.start()
    here.await_bridge()
    assert here.bridges()[0]["trouble"] is None, here.bridges()
    here.stop(), there.stop()


def lazy_and_once(folder):
    there = Mosquitto(folder, "mosquitto").start()
    here = Midge(folder, "midge", *connection(there, "l/# out 2", extra=["start_type lazy", "threshold 5", "idle_timeout 2"]))
    here.start()
    ear, mouth = Client(there, "ear", "l/#"), Client(here, "mouth")
    for number in range(4):
        mouth.publish("l/x", str(number), number % 3)
    time.sleep(0.5)
    assert not ear.heard and not here.bridges()[0]["connected"]
    mouth.publish("l/x", "4", 2)
    until(lambda: len(ear.heard) == 5, lambda: ear.all())
    assert sorted(message.payload for message in ear.heard) == [b"0", b"1", b"2", b"3", b"4"]
    here.await_bridge(False)
    here.write(*connection(there, "l/# out 2", extra=["start_type once"]))
    here.reload()
    here.await_bridge()
    mouth.publish("l/x", "5", 2)
    ear.wait("l/x", "5")
    there.stop()
    here.await_bridge(False)
    there.start()
    time.sleep(2)
    assert not here.bridges()[0]["connected"], "once is once"
    here.stop(), there.stop()


def the_next_address_is_tried(folder):
    first, second = Mosquitto(folder, "first"), Mosquitto(folder, "second").start()
    lines = ["connection b", f"address 127.0.0.1:{first.port} 127.0.0.1:{second.port}", "topic # out 1", "restart_timeout 1"]
    here = Midge(folder, "midge", *lines).start()
    here.await_bridge()
    assert here.bridges()[0]["address"].endswith(str(second.port))
    first.start(), second.stop()
    here.await_bridge()
    until(lambda: here.bridges()[0]["address"].endswith(str(first.port)), "the first is not tried again")
    here.stop(), first.stop()


def mosquitto_bridges_to_midge(folder):
    """The other way round, with all that mosquitto does by default."""
    here = Midge(folder, "midge").start()
    there = Mosquitto(folder, "mosquitto", *connection(here, "# both 2")).start()
    ears = [Client(there, "ear", "m/#"), Client(here, "ear", "m/#", "$SYS/broker/connection/#")]
    mouths = [Client(there, "mouth"), Client(here, "mouth")]
    ears[1].wait("$SYS/broker/connection/b-id/state", "1")
    for number in range(30):
        mouths[number % 2].publish(f"m/{number}", "x", number % 3)
    for ear in ears:
        until(lambda: len([m for m in ear.heard if m.topic.startswith("m/")]) == 30, lambda: ear.all())
    there.kill()
    ears[1].wait("$SYS/broker/connection/b-id/state", "0")
    here.stop()


class Impostor:
    """Something that is no broker, or no good one."""

    def __init__(self, behave):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port, self.calls = self.socket.getsockname()[1], 0
        self.kept = []
        threading.Thread(target=self._serve, args=(behave,), daemon=True).start()

    def _serve(self, behave):
        while True:
            peer, _ = self.socket.accept()
            self.calls += 1
            self.kept.append(peer)
            threading.Thread(target=self._behave, args=(behave, peer), daemon=True).start()

    @staticmethod
    def _behave(behave, peer):
        try:
            behave(peer)
        except OSError:
            pass


def junk(peer):
    peer.recv(4096)
    while True:
        peer.sendall(os.urandom(4096))


def junk_after_connack(peer):
    peer.recv(4096)
    peer.sendall(b"\x20\x02\0\0")
    while True:
        peer.sendall(os.urandom(4096))


def promises_without_end(peer):
    peer.recv(4096)
    peer.sendall(b"\x20\x02\0\0\x30\xff\xff\xff\x7f")
    while True:
        peer.sendall(bytes(65536))


def reads_no_more(peer):
    peer.recv(4096)
    peer.sendall(b"\x20\x02\0\0")


def answers_nothing(peer):
    pass


def hangs_up(peer):
    peer.close()


def floods(peer):
    """Messages without end that nobody asked for, and some that somebody did."""
    peer.recv(4096)
    peer.sendall(b"\x20\x02\0\0")
    while True:
        peer.sendall((b"\x30\x0b\0\x04evil12345" + b"\x30\x08\0\x03f/x123") * 500)


def memory(process):
    rows = open(f"/proc/{process.pid}/status").read().splitlines()
    return next(int(row.split()[1]) for row in rows if row.startswith("VmRSS")) // 1024


def bad_peers_harm_nobody(folder):
    for behave in (junk, junk_after_connack, promises_without_end, reads_no_more, answers_nothing, hangs_up, floods):
        impostor = Impostor(behave)
        here = Midge(folder, f"midge-{behave.__name__}", *connection(impostor, "f/# both 1", "g/# out 0")).start()
        until(lambda: impostor.calls, "nobody calls")
        ear, mouth = Client(here, "ear", "h/#"), Client(here, "mouth")
        for number in range(200):
            mouth.publish("f/own", "x" * 20_000, 1), mouth.publish("g/own", "x" * 20_000)
            mouth.publish("h/x", str(number), 1)
        began = time.monotonic()
        mouth.publish("h/x", "last", 1)
        ear.wait("h/x", "last")
        took = time.monotonic() - began
        assert took < 10 and len(ear.heard) == 201, (behave.__name__, took, len(ear.heard))
        used = memory(here.process)
        print(f"    {behave.__name__}: {used} MB, {here.bridges()[0]['trouble']}, {impostor.calls} calls")
        assert used < 120, behave.__name__
        if behave is floods:
            until(lambda: here.bridges()[0]["dropped"] > 100, "what nobody asked for is not counted")
        here.stop()


TESTS = [both_ways_under_prefixes, properties_of_version_5, nothing_comes_back, tls_and_credentials,
         the_state_topic_is_right, restarts_lose_nothing, a_queue_survives_and_drains_in_order,
         bridges_come_change_and_go, another_name_keeps_the_session, who_goes_while_dialling_leaves_nothing,
         what_is_too_large_is_in_nobodys_way, a_refused_subscription_shows,
         a_high_threshold_counts_what_may_be_in_flight, lazy_and_once, the_next_address_is_tried,
         mosquitto_bridges_to_midge, bad_peers_harm_nobody]

if __name__ == "__main__":
    run(TESTS)
