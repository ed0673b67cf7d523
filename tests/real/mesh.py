"""Ring 4: whole sites in network namespaces with real NATs, a real mailbox, a real relay and real clients.

    python3 tests/real/mesh.py [NAME…]     all tests, or those named

Needs root, iproute2, nftables, conntrack, mosquitto, coturn and paho-mqtt. Prints what it measured.
"""

import os
import subprocess
import time
from pathlib import Path

from device import Device, settle
from lab import Lab, MAILBOX_PORT, PUBLIC, sh, stop, until
from midge_site import MIDGE, Site, meet, show
from runner import run


def first_message(lab, here, there, seconds=20):
    """Publishes from one site until the other one's subscriber hears it; returns the time of that."""
    listener = Device(lab, there.host, "first-listener", subscribe=["first"], persistent=False)
    speaker = Device(lab, here.host, "first-speaker", persistent=False)

    def heard():
        speaker.publish("first", "hello")
        return listener.seen

    until("a message from site to site", heard, seconds, step=0.02)
    now = time.monotonic()
    listener.close()
    speaker.close()
    return now


def pair(lab, turn=False, **options):
    a = Site(lab, "a", "cabin", turn=turn, **options)
    b = Site(lab, "b", "boat", token=a.token, turn=turn, **options)
    return a, b


def cone_to_cone_is_direct(workdir):
    with Lab({"a": "cone", "b": "cone"}, workdir) as lab:
        lab.mailbox(), lab.turn()
        a, b = pair(lab)
        began = time.monotonic()
        a.start(), b.start()
        seconds = first_message(lab, a, b) - began
        meet(a, b)
        path = a.peer("boat")
        show(f"cone/cone: first message {seconds:.2f} s after the start of both, {path['path']} "
             f"{path['local_candidate']}-{path['remote_candidate']}, rtt {path['rtt_micros']} us")
        assert path["path"] == "direct", path
        assert path["remote_candidate"] in ("srflx", "prflx"), path


def symmetric_to_symmetric_takes_the_relay(workdir):
    with Lab({"a": "symmetric", "b": "symmetric"}, workdir) as lab:
        lab.mailbox(), lab.turn()
        a, b = pair(lab, turn=True)
        began = time.monotonic()
        a.start(), b.start()
        seconds = first_message(lab, a, b) - began
        meet(a, b)
        path = a.peer("boat")
        show(f"symmetric/symmetric: first message {seconds:.2f} s after the start of both, {path['path']} "
             f"{path['local_candidate']}-{path['remote_candidate']}, rtt {path['rtt_micros']} us")
        assert path["path"] == "relayed", path


def blocked_udp_leaves_local_service_alone(workdir):
    with Lab({"a": "udp-blocked", "b": "cone"}, workdir) as lab:
        lab.mailbox(), lab.turn()
        a, b = pair(lab)
        a.start(), b.start()
        until("the sites know each other", lambda: a.peer("boat") and b.peer("cabin"), 20)
        listener = Device(lab, "a", "l", subscribe=["x"], persistent=False).ready()
        speaker = Device(lab, "a", "s", persistent=False)
        until("local delivery", lambda: speaker.publish("x", "1", 1) or listener.seen, 5, step=0.1)
        time.sleep(8)
        assert not a.peer("boat")["up"]
        assert "no link" in sh(MIDGE, "status", "--data", a.data).stdout


def a_new_public_address_loses_nothing(workdir):
    with Lab({"a": "cone", "b": "cone"}, workdir) as lab:
        lab.mailbox(), lab.turn()
        a, b = pair(lab)
        a.start(), b.start()
        meet(a, b)
        listener = Device(lab, "b", "l", subscribe=["t"]).ready()
        meet(a, b)
        time.sleep(0.5)
        speaker = Device(lab, "a", "s")
        for n in range(400):
            if n == 100:
                lab.readdress("a")
                cut = time.monotonic()
            speaker.publish("t", f"{n}", qos=1)
            time.sleep(0.02)
        until("everything after the new address", lambda: len(listener.payloads("t")) >= 400, 60)
        show(f"new public address: all of 400 QoS 1 messages, the last {time.monotonic() - cut:.1f} s after the change")
        assert listener.payloads("t") == [f"{n}" for n in range(400)], "lost, doubled or out of order"


def outages(workdir):
    """Each site killed in turn, the mailbox stopped, the link cut under load: nothing acknowledged is missing."""
    with Lab({"a": "cone", "b": "cone"}, workdir) as lab:
        mailbox = lab.mailbox()
        lab.turn()
        sites = pair(lab)
        a, b = sites
        a.start(), b.start()
        meet(a, b)
        ears = [Device(lab, s.host, f"ear-{s.name}", subscribe=["load/#"]).ready() for s in sites]
        mouths = [Device(lab, s.host, f"mouth-{s.name}") for s in sites]
        meet(a, b)
        time.sleep(0.5)
        spoken = {s.name: {1: 0, 2: 0} for s in sites}

        def speak(count, pause):
            for _ in range(count):
                for site, mouth in zip(sites, mouths):
                    for qos in (1, 2):
                        n = spoken[site.name][qos]
                        spoken[site.name][qos] += 1
                        mouth.publish(f"load/{site.name}/{qos}", f"{n}", qos=qos)
                time.sleep(pause)

        for site in sites:
            speak(50, 0.01)
            site.restart()
            speak(50, 0.01)
            meet(a, b, seconds=60)
        show("each site killed and back")
        all_acknowledged(mouths, sites)
        stop(mailbox)
        speak(100, 0.05)
        time.sleep(OUTAGE_SECS)
        lab.mailbox()
        speak(50, 0.01)
        show("mailbox gone and back")
        lab.cut("a")
        mouths[0].publish("state/here", "from-a", qos=1, retain=True)
        mouths[1].publish("state/there", "from-b", qos=1, retain=True)
        mouths[1].publish("state/both", "b", qos=1, retain=True)
        speak(1000, OUTAGE_SECS / 1000)
        mouths[0].publish("state/both", "a", qos=1, retain=True)
        lab.heal("a")
        healed = time.monotonic()
        meet(a, b, seconds=90)
        show(f"link back {time.monotonic() - healed:.1f} s after the network")
        mouths[1].publish("state/here", "", qos=1, retain=True)
        speak(20, 0.01)
        all_acknowledged(mouths, sites)
        settle(ears, 90)
        compare(sites, ears, mouths, spoken)
        retained = [retained_values(lab, site) for site in sites]
        assert retained[0] == retained[1] == {"state/there": "from-b", "state/both": "a"}, retained
        show(f"retained values equal, deletion included: {retained[0]}")


def all_acknowledged(mouths, sites):
    for mouth in mouths:
        try:
            until("every acknowledgement", lambda m=mouth: m.unacknowledged() == 0, 30)
        except AssertionError:
            for site in sites:
                show(sh(MIDGE, "status", "--data", site.data).stdout)
            raise AssertionError(f"never acknowledged: {sorted(mouth.waiting.items())[:20]}") from None


# The acceptance says a minute; shorter while working on it.
OUTAGE_SECS = float(os.environ.get("OUTAGE_SECS", "60"))


def compare(sites, ears, mouths, spoken):
    for ear, at in zip(ears, sites):
        for site, mouth in zip(sites, mouths):
            for qos in (1, 2):
                topic = f"load/{site.name}/{qos}"
                got = ear.payloads(topic)
                acked = {p for t, p in mouth.acked if t == topic}
                missing = acked - set(got)
                assert not missing, f"{topic} at {at.name}: {len(missing)} acknowledged are missing: {sorted(missing)[:9]}"
                first = list(dict.fromkeys(got))
                assert first == sorted(first, key=int), f"{topic} at {at.name}: out of order"
                doubled = len(got) - len(first)
                if qos == 2:
                    assert doubled == 0, f"{topic} at {at.name}: {doubled} came twice"
                show(f"{topic} at {at.name}: {len(first)} of {spoken[site.name][qos]}, {doubled} twice, in order")


def retained_values(lab, site):
    reader = Device(lab, site.host, f"reader-{site.name}-{time.monotonic_ns()}", subscribe=["state/#"],
                    persistent=False).ready()
    time.sleep(1)
    values = {t: p for t, p, _, retain in reader.seen if retain}
    reader.close()
    return values


def three_sites_deliver_once_and_fall_silent(workdir):
    with Lab({"a": "cone", "b": "cone", "c": "cone"}, workdir) as lab:
        lab.mailbox(), lab.turn()
        a = Site(lab, "a", "cabin")
        sites = [a, Site(lab, "b", "boat", token=a.token), Site(lab, "c", "field", token=a.token)]
        for site in sites:
            site.start()
        meet(*sites)
        ears = [Device(lab, s.host, f"ear{n}-{s.name}", subscribe=["all/#"], persistent=False).ready()
                for s in sites for n in range(2)]
        mouths = [Device(lab, s.host, f"mouth{n}-{s.name}", persistent=False) for s in sites for n in range(2)]
        meet(*sites)
        time.sleep(1)
        for n in range(100):
            for m, mouth in enumerate(mouths):
                mouth.publish(f"all/{m}", f"{m}:{n}", qos=n % 3)
            time.sleep(0.005)
        want = {f"{m}:{n}" for m in range(len(mouths)) for n in range(100)}
        until("all deliveries", lambda: all(len(e.seen) >= len(want) for e in ears), 20)
        settle(ears, 20)
        for ear in ears:
            got = ear.payloads()
            assert len(got) == len(set(got)) == len(want), (len(got), len(set(got)), len(want))
        before = [lab.link_bytes(s.host) for s in sites]
        time.sleep(5)
        moved = [now - then for now, then in zip([lab.link_bytes(s.host) for s in sites], before)]
        show(f"three sites, six subscribers: {len(want)} messages once each; then {moved} bytes in 5 s")
        assert max(moved) < 20_000, "the traffic does not stop"


def idle_costs(workdir):
    with Lab({"a": "cone", "b": "cone"}, workdir) as lab:
        lab.mailbox(), lab.turn()
        a, b = pair(lab)
        a.start(), b.start()
        meet(a, b)
        time.sleep(20)
        seconds = 120
        before = lab.link_bytes("a")
        time.sleep(seconds)
        moved = lab.link_bytes("a") - before
        hourly = moved * 3600 / seconds
        show(f"idle site with a link: RSS {a.rss_kb()} kB and {b.rss_kb()} kB; "
             f"{hourly / 1000:.0f} kB an hour on the wire, link and mailbox together")
        assert a.rss_kb() <= 25_000, "more than 25 MB"
        assert hourly < 2_000_000, "more than 1 MB an hour for the link and as much for the mailbox"


def another_meshs_door_is_named(workdir):
    with Lab({"a": "open", "b": "open"}, workdir) as lab:
        a = Site(lab, "a", "cabin", mailbox=False, stun=False, mesh="port = 4242").start()
        b = Site(lab, "b", "stranger", mailbox=False, stun=False, mesh='peers = ["10.10.0.2:4242"]').start()
        fingerprint = until("a is up", lambda: a.status()["mesh"]["fingerprint"], 10)[0]
        named = until("b names the other mesh", lambda: b.status()["mesh"]["strangers"], 20)[0]
        assert named == [["10.10.0.2:4242", fingerprint]], named
        log = (lab.workdir / "stranger.log").read_text()
        assert fingerprint in log and b.status()["mesh"]["fingerprint"] in log, log
        assert not a.status()["mesh"]["peers"]


def peers_without_any_mailbox(workdir):
    with Lab({"a": "open", "b": "cone"}, workdir) as lab:
        a = Site(lab, "a", "cabin", mailbox=False, stun=False, mesh="port = 4242")
        b = Site(lab, "b", "boat", token=a.token, mailbox=False, stun=False, mesh='peers = ["10.10.0.2:4242"]')
        began = time.monotonic()
        a.start(), b.start()
        first_message(lab, a, b)
        show(f"peers = [...] alone: first message after {time.monotonic() - began:.2f} s")
        # Cached addresses: the site that was dialled restarts and is met again although nothing names it.
        a.restart()
        meet(a, b, seconds=60)


def a_stranger_at_the_mailbox_learns_nothing(workdir):
    with Lab({"a": "cone", "b": "cone", "x": "open"}, workdir) as lab:
        lab.mailbox(), lab.turn()
        spy_log = open(lab.workdir / "spy.log", "wb")
        spy = subprocess.Popen(["ip", "netns", "exec", lab.ns("x"), "mosquitto_sub", "-h", PUBLIC, "-p", str(MAILBOX_PORT),
                                "-t", "#", "-F", "%t %x"], stdout=spy_log)
        lab.children.append(spy)
        time.sleep(0.5)
        a, b = pair(lab)
        a.start(), b.start()
        meet(a, b)
        stop(spy)
        lines = Path(lab.workdir / "spy.log").read_text().splitlines()
        assert lines, "the spy saw no card at all: the test does not test"
        heard = b"".join(bytes.fromhex(line.split(" ", 1)[1]) for line in lines)
        topics = " ".join(line.split(" ", 1)[0] for line in lines)
        for secret in ["cabin", "boat", "10.10.0.2", "10.20.0.2", "203.0.113.10", a.token, a.status()["site"]]:
            assert secret.encode() not in heard and secret not in topics, secret
            if len(secret) == 64:
                assert bytes.fromhex(secret) not in heard
        assert bytes([10, 10, 0, 2]) not in heard and bytes([203, 0, 113, 10]) not in heard
        # It answers on every topic: with what it heard, reflected and mutated.
        for line in lines:
            topic, payload = line.split(" ", 1)
            for other in {line.split(" ", 1)[0] for line in lines}:
                raw = bytes.fromhex(payload)
                for forged in (raw, bytes([raw[0] ^ 1]) + raw[1:], raw[:-1]):
                    subprocess.run(["ip", "netns", "exec", lab.ns("x"), "mosquitto_pub", "-h", PUBLIC, "-t", other,
                                    "-s"], input=forged, check=True)
        time.sleep(1)
        assert len(a.status()["mesh"]["peers"]) == 1 and len(b.status()["mesh"]["peers"]) == 1
        meet(a, b, seconds=5)
        show(f"a stranger read {len(lines)} messages and answered them: nothing learnt, nothing connected")


TESTS = [cone_to_cone_is_direct, symmetric_to_symmetric_takes_the_relay, peers_without_any_mailbox,
         another_meshs_door_is_named, blocked_udp_leaves_local_service_alone, a_stranger_at_the_mailbox_learns_nothing,
         a_new_public_address_loses_nothing, three_sites_deliver_once_and_fall_silent, idle_costs, outages]


if __name__ == "__main__":
    run(TESTS)
