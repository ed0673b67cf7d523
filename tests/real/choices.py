"""Ring 4: what mosquitto lets the operator choose about messages, beside mosquitto; and what SIGHUP changes.

    python3 tests/real/choices.py [NAME…]     all tests, or those named

The same clients say the same to both: what they hear is compared. Needs Debian's mosquitto, paho-mqtt. Only loopback.
"""

import json
import signal
import socket
import subprocess
import time

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from program import MIDGE, free_port, until
from runner import run

V311, V5 = paho.MQTTv311, paho.MQTTv5
#: Nothing more comes after this.
QUIET = 0.4


class Broker:
    """Either of them, by one mosquitto.conf with so many listeners."""

    def __init__(self, program, folder, before=(), listeners=((),)):
        self.program, self.folder, self.log = program, folder, folder / f"{program}.log"
        self.ports = [free_port() for _ in listeners]
        self.conf, self.data = folder / f"{program}.conf", folder / "data"
        self.write(before, listeners)
        words = [MIDGE, "-c", self.conf, "--data", self.data] if program == "midge" else ["mosquitto", "-c", self.conf]
        self.process = subprocess.Popen(words, stderr=open(self.log, "w"))
        until(f"{program} does not serve", lambda: self.process.poll() is not None or self.serves())
        assert self.process.poll() is None, self.log.read_text()

    def serves(self):
        return all(socket.socket().connect_ex(("127.0.0.1", port)) == 0 for port in self.ports)

    def write(self, before=(), listeners=((),)):
        lines = ["user root", *before]
        if not any(line.startswith("allow_anonymous") for line in before):
            lines.append("allow_anonymous true")
        for port, own in zip(self.ports, listeners, strict=True):
            lines += [f"listener {port} 127.0.0.1", *own]
        self.conf.write_text("\n".join(lines) + "\n")

    def hup(self):
        self.process.send_signal(signal.SIGHUP)
        time.sleep(0.7)

    def end(self):
        self.process.terminate()
        assert self.process.wait(20) == 0, self.log.read_text()


class Client:
    """Keeps what it hears, in order."""

    def __init__(self, broker, name, version=V311, at=0, clean=True, user=None, password=None):
        options = {} if version == V5 else {"clean_session": clean}
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=name, protocol=version, **options)
        self.heard, self.acked, self.is_gone = [], {}, False
        self.client.on_message = self.on_message
        self.client.on_publish = lambda _c, _u, mid, reason, _p: self.acked.update({mid: reason.value})
        self.client.on_disconnect = lambda *_: setattr(self, "is_gone", True)
        if user:
            self.client.username_pw_set(user, password)
        more = {}
        if version == V5:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = 0 if clean else 1000
            more = {"clean_start": clean, "properties": properties}
        self.client.connect("127.0.0.1", broker.ports[at], **more)
        self.client.loop_start()
        until(f"{name} does not come in", self.client.is_connected)

    def on_message(self, _client, _user, message):
        ids = getattr(getattr(message, "properties", None), "SubscriptionIdentifier", None)
        self.heard.append((message.topic, message.payload.decode()[:20], message.qos, message.retain, ids))

    def subscribe(self, *filters, ids=False):
        for number, (text, qos) in enumerate(filters):
            properties = Properties(PacketTypes.SUBSCRIBE)
            properties.SubscriptionIdentifier = number + 1
            if ids:
                self.client.subscribe(text, options=paho.SubscribeOptions(qos=qos), properties=properties)
            else:
                self.client.subscribe(text, qos)
            time.sleep(0.1)

    def publish(self, topic, payload, qos=0, retain=False):
        info = self.client.publish(topic, payload, qos, retain)
        info.wait_for_publish(10)
        return info.mid

    def hears(self):
        time.sleep(QUIET)
        heard, self.heard = self.heard, []
        return heard

    def leave(self):
        self.client.disconnect()
        self.client.loop_stop()


def both(folder, story, before=(), listeners=((),)):
    """The story with each of them: what it returns is the same."""
    told = {}
    for program in ("mosquitto", "midge"):
        place = folder / f"{program}-{len(list(folder.iterdir()))}"
        place.mkdir()
        broker = Broker(program, place, before, listeners)
        told[program] = story(broker)
        broker.end()
    assert told["midge"] == told["mosquitto"], f"{before}\nmidge:     {told['midge']}\nmosquitto: {told['mosquitto']}"
    assert told["midge"], "a story without a word"
    return told["midge"]


def overlapping_subscriptions(folder):
    def story(version):
        def tell(broker):
            ear, mouth = Client(broker, "ear", version), Client(broker, "mouth")
            # In the order of their QoS: of several mosquitto takes the first that it finds for older clients.
            ear.subscribe(("a/b", 1), ("a/#", 1), ("+/b", 1), ids=version == V5)
            mouth.publish("a/b", "x", 2)
            heard = sorted(ear.hears(), key=str)
            ear.leave(), mouth.leave()
            return heard

        return tell

    assert len(both(folder, story(V311))) == 1
    assert len(both(folder, story(V5))) == 3
    assert len(both(folder, story(V311), ["allow_duplicate_messages true"])) == 3
    assert len(both(folder, story(V5), ["allow_duplicate_messages true"])) == 3
    assert len(both(folder, story(V311), ["allow_duplicate_messages false"])) == 1
    # Different on purpose: mosquitto goes on with three.
    place = folder / "once"
    place.mkdir()
    broker = Broker("midge", place, ["allow_duplicate_messages false"])
    (only,) = story(V5)(broker)
    assert sorted(only[-1]) == [1, 2, 3], only
    broker.end()


def qos_0_for_who_is_away(folder):
    def story(broker):
        Client(broker, "ear", clean=False).subscribe(("t", 0), ("u", 1))
        ear = Client(broker, "ear", clean=False)
        ear.leave()
        mouth = Client(broker, "mouth")
        for number in range(9):
            mouth.publish("t" if number % 3 else "u", str(number), number % 2)
        mouth.leave()
        ear = Client(broker, "ear", clean=False)
        heard = ear.hears()
        ear.leave()
        return heard

    with_it = both(folder, story, ["queue_qos0_messages true"])
    assert [int(payload) for _, payload, *_ in with_it] == list(range(9)), with_it
    without = both(folder, story, ["queue_qos0_messages false"])
    assert 0 < len(without) < 9 and all(qos == 1 for _, _, qos, *_ in without), without


def upgraded_qos(folder):
    def story(broker):
        mouth, ear = Client(broker, "mouth"), Client(broker, "ear")
        mouth.publish("kept", "x", 0, retain=True)
        ear.subscribe(("t", 2), ("kept", 1))
        for qos in (0, 1, 2):
            mouth.publish("t", f"q{qos}", qos)
        heard = ear.hears()
        mouth.leave(), ear.leave()
        return heard

    assert [qos for *_, qos, _, _ in both(folder, story, ["upgrade_outgoing_qos true"])] == [1, 2, 2, 2]
    assert [qos for *_, qos, _, _ in both(folder, story)] == [0, 0, 1, 2]


def bytes_in_flight(folder):
    def story(broker):
        ear, mouth = Client(broker, "ear"), Client(broker, "mouth")
        ear.client.manual_ack_set(True)
        ear.subscribe(("t", 1))
        for _ in range(5):
            mouth.publish("t", "x" * 40, 1)
        heard = len(ear.hears())
        ear.leave(), mouth.leave()
        return heard

    assert both(folder, story, ["max_inflight_messages 2"]) == 2
    # As mosquitto's manual has it; 2.0.11 sends one more.
    for most, sent in ((100, 3), (10, 1)):
        place = folder / str(most)
        place.mkdir()
        broker = Broker("midge", place, [f"max_inflight_bytes {most}"])
        assert story(broker) == sent
        broker.end()


def payloads_that_are_too_large(folder):
    def story(broker):
        ear, mouth = Client(broker, "ear"), Client(broker, "mouth")
        ear.subscribe(("#", 2))
        acked = [mouth.publish("t", "x" * size, qos) in mouth.acked for qos in (0, 1, 2) for size in (100, 101)]
        heard = ear.hears()
        ear.leave(), mouth.leave()
        return acked, mouth.acked, heard

    acked, _, heard = both(folder, story, ["message_size_limit 100"])
    assert all(acked) and len(heard) == 3, (acked, heard)
    # MQTT 5 is told by a reason that PUBACK may have.
    place = folder / "five"
    place.mkdir()
    broker = Broker("midge", place, ["message_size_limit 100"])
    mouth = Client(broker, "mouth", V5)
    mid = mouth.publish("t", "x" * 101, 1)
    assert mouth.acked[mid] == 0x97 and mouth.client.is_connected(), mouth.acked
    mouth.leave()
    status = subprocess.run([MIDGE, "status", "--json", "--data", broker.data], capture_output=True, text=True, timeout=30)
    assert '"over size":1' in status.stdout.replace(" ", "").replace("oversize", "over size"), status.stdout
    broker.end()


def vanish(port):
    """A client that leaves without a word, and with a will."""
    body = b"\x00\x04MQTT\x04\x06\x00\x3c\x00\x05ghost\x00\x04will\x00\x04gone"
    with socket.create_connection(("127.0.0.1", port)) as ghost:
        ghost.sendall(bytes([0x10, len(body)]) + body)
        assert ghost.recv(4)[:2] == b"\x20\x02"


def places(folder):
    def story(broker):
        inside, outside = Client(broker, "inside", at=1), Client(broker, "outside")
        inside.subscribe(("#", 1), ("$SYS/broker/version", 0))
        outside.subscribe(("#", 1))
        inside.publish("t/1", "in", 1)
        outside.publish("home/t/2", "out", 1)
        outside.publish("away", "out", 1)
        inside.publish("kept", "r", 1, retain=True)
        late = Client(broker, "late", at=1)
        late.subscribe(("kept", 1))
        heard = inside.hears(), outside.hears(), late.hears()
        vanish(broker.ports[1])
        heard += (outside.hears(),)
        inside.leave(), outside.leave(), late.leave()
        # 2.0.11 forgets to take the mount point off again, which others before and after it do.
        bare = [[(topic.removeprefix("home/"), *rest) for topic, *rest in one] for one in (heard[0], heard[2])]
        if broker.program == "midge":
            assert [heard[0], heard[2]] == bare, heard
        return bare[0], heard[1], bare[1], heard[3]

    told = both(folder, story, listeners=((), ("mount_point home/",)))
    assert told[0] == [("t/1", "in", 1, False, None), ("t/2", "out", 1, False, None), ("kept", "r", 1, False, None)], told
    assert told[3][0][:2] == ("home/will", "gone"), told

    def limits(broker):
        first, second = Client(broker, "first"), Client(broker, "second", V5, at=1)
        return_codes = []
        second.client.on_subscribe = lambda _c, _u, _m, codes, _p: return_codes.extend(code.value for code in codes)
        second.subscribe(("t", 2))
        first.publish("t", "x", 2)
        heard = second.hears()
        first.leave(), second.leave()
        return return_codes, heard

    told = both(folder, limits, listeners=((), ("max_qos 1", "max_topic_alias 0")))
    assert told == ([1], [("t", "x", 1, False, None)]), told


def retained_messages_go_with_rights(folder):
    rules, words = folder / "acl", folder / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", words, "eve", "e"], check=True)
    subprocess.run(["mosquitto_passwd", "-b", words, "bob", "b"], check=True)
    for path in (rules, words):
        path.touch()
        path.chmod(0o600)

    def story(broker):
        rules.write_text("user eve\ntopic readwrite #\nuser bob\ntopic read #\n")
        broker.hup()
        eve = Client(broker, "eve", user="eve", password="e")
        eve.publish("kept", "x", 1, retain=True)
        eve.leave()
        told = []
        for words in ("user eve\ntopic readwrite #", "user eve\ntopic write other", "user eve\ntopic write kept"):
            rules.write_text(f"{words}\nuser bob\ntopic read #\n")
            broker.hup()
            bob = Client(broker, "bob", user="bob", password="b")
            bob.subscribe(("kept", 1))
            told.append(bob.hears())
            bob.leave()
        return told

    rules.write_text("user eve\ntopic readwrite #\nuser bob\ntopic read #\n")
    lines = ["allow_anonymous false", f"password_file {words}", f"acl_file {rules}"]
    # Without the line mosquitto 2.0.11 forgets on SIGHUP that this is its default.
    assert [len(heard) for heard in both(folder, story, [*lines, "check_retain_source true"])] == [1, 0, 1]
    assert [len(heard) for heard in both(folder, story, [*lines, "check_retain_source false"])] == [1, 1, 1]


def sighup_reads_the_configuration_again(folder):
    def story(broker):
        told = []
        mouth = Client(broker, "mouth")
        ear = Client(broker, "ear")
        ear.subscribe(("t", 2))
        for lines in ([], ["message_size_limit 3"], ["upgrade_outgoing_qos true"], ["allow_anonymous maybe"], []):
            broker.write(lines)
            broker.hup()
            mouth.publish("t", "xxxx", 0)
            told.append([qos for _, _, qos, *_ in ear.hears()])
        mouth.leave(), ear.leave()
        return told

    # A wrong file changes nothing: mosquitto may have half of it, so that is midge's alone.
    place = folder / "midge"
    place.mkdir()
    broker = Broker("midge", place)
    assert story(broker) == [[0], [], [2], [2], [0]], broker.log.read_text()
    log = broker.log.read_text()
    assert "The old configuration stays in force:" in log and "midge.conf:2:17: allow_anonymous" in log, log

    def reload():
        return subprocess.run([MIDGE, "reload", "--data", broker.data], capture_output=True, text=True, timeout=30)

    broker.write(["persistence false", "max_queued_messages 7"])
    said = reload()
    wanted = f"{broker.conf}:2: persistence takes effect at the next start."
    assert said.returncode == 0 and wanted in said.stdout and "max_queued" not in said.stdout, said
    broker.conf.write_text("listener 0\n")
    said = reload()
    assert said.returncode != 0 and f"{broker.conf}:1:" in said.stderr, said
    # Who may come in: rules that there were none of before, and who came in without them goes.
    words = place / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", words, "bob", "b"], check=True)
    anybody = Client(broker, "anybody")
    broker.write(["allow_anonymous false", f"password_file {words}"])
    assert reload().returncode == 0
    until("who came in without a name stays", lambda: anybody.is_gone)
    anybody.client.loop_stop()
    bob = Client(broker, "bob", user="bob", password="b")
    bob.leave()
    # Where it is told, and how much.
    broker.write([f"log_dest file {place}/new.log", "log_type all"])
    assert reload().returncode == 0
    Client(broker, "late").leave()
    until("nothing in the new log", lambda: "late" in (place / "new.log").read_text())
    # Limits that clients are told.
    broker.write(["retain_available false"], ((f"max_topic_alias {3}",),))
    assert reload().returncode == 0
    five = Client(broker, "five", V5)
    five.leave()
    report = json.loads(subprocess.run([MIDGE, "check", broker.conf, "--json"], capture_output=True, text=True).stdout)
    assert report["ok"], report
    broker.end()


if __name__ == "__main__":
    run(
        [
            overlapping_subscriptions,
            qos_0_for_who_is_away,
            upgraded_qos,
            bytes_in_flight,
            payloads_that_are_too_large,
            places,
            retained_messages_go_with_rights,
            sighup_reads_the_configuration_again,
        ]
    )
