"""The console of a running site over real TCP: two consoles at once against a golden transcript, locked and unlocked;
scripts uploaded as `nc` does it and fetched over HTTP; restarts; what nobody should send.

    python3 tests/real/console.py [NAME…]     all tests, or those named
    GOLDEN=write python3 tests/real/console.py two_consoles_talk_as_the_golden_transcript_says

Needs mosquitto's clients. Loopback only."""

import http.server
import json
import os
import re
import select
import signal
import socket
import ssl
import subprocess
import termios
import threading
import time
import tty
from pathlib import Path

from program import MIDGE, certified, free_port, until
from runner import run

GOLDEN = Path(__file__).with_name("console.txt")
PROMPT = b"CMD>"
COMPAT = "on init do println 2+3*4\non topic local cmd do println $this_data\n"


def show(text):
    print(f"    {text}", flush=True)




class Site:
    """One midge on loopback with a console."""

    def __init__(self, workdir, config=""):
        self.port, self.console = free_port(), free_port()
        workdir.mkdir(exist_ok=True)
        self.data, self.log = workdir / "data", workdir / "site.log"
        conf = workdir / "site.toml"
        conf.write_text(f'[site]\nname = "cabin"\n[[listener]]\nbind = "127.0.0.1:{self.port}"\n[console]\n'
                        f'bind = "127.0.0.1:{self.console}"\n{config}\n')
        self.command = [MIDGE, "run", "-v", "-c", str(conf), "--data", str(self.data)]

    def start(self):
        with self.log.open("a") as log:
            self.process = subprocess.Popen(self.command, stderr=log, stdout=log)
        until("the site serves", self.answers)
        return self

    def answers(self):
        try:
            with socket.create_connection(("127.0.0.1", self.console), 1) as conn:
                return conn.recv(4) == PROMPT
        except OSError:
            return False

    def status(self):
        out = subprocess.run([MIDGE, "status", "--json", "--data", str(self.data)], capture_output=True, text=True)
        return json.loads(out.stdout)

    def clients(self):
        out = subprocess.run([MIDGE, "client", "ls", "--json", "--data", str(self.data)], capture_output=True, text=True)
        return json.loads(out.stdout)

    def rss_kb(self):
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))

    def talk(self, program, *words):
        return subprocess.run([program, "-p", str(self.port), *words], capture_output=True, text=True, timeout=20)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(20) == 0
        assert "panicked" not in self.log.read_text()


class Console:
    """A person with netcat."""

    def __init__(self, site, prompt=True):
        self.conn = socket.create_connection(("127.0.0.1", site.console), 10)
        self.conn.settimeout(15)
        self.rest = b""
        if prompt:
            self.hear()

    def hear(self, end=PROMPT):
        while end not in self.rest:
            piece = self.conn.recv(65536)
            if not piece:
                raise AssertionError(f"closed after {self.rest!r}")
            self.rest += piece
        said, self.rest = self.rest.split(end, 1)
        return (said + end).decode(errors="replace")

    def ask(self, line):
        self.conn.sendall(line.encode() + b"\n")
        return self.hear()

    def closes(self):
        while piece := self.conn.recv(65536):
            self.rest += piece
        return True


# What two people say, in turn. `a` and `b` are consoles; `!` waits for what comes by itself.
DIALOGUE = """
a help quit
a set broker_user bob
b set foo 1
a set ssid
b
a set ssid my\\ net
b set password secret88
a set mqtt_host broker.example
b show config
a show vars
b publish local room/lamp on retained
a publish local t v keep
b publish remote t v
a show mqtt
b show script
a set @1 42
b show vars
a lock
b lock pw
a save
b set ssid other
a show config
b publish local t v
a show mqtt
b reset
a lock again
b unlock wrong
a time
b unlock pw
a save
b set config_access 0
a set config_access 3
b script 0
a script nonsense
b script revert
a delete_retained
b show mqtt
a scan
a! scan fail !!!
b quit
a save_retained
"""


def timeless(text):
    text = re.sub(r"[A-Z][a-z]{2} \d\d:\d\d:\d\d", "Ddd hh:mm:ss", text)
    text = re.sub(r"Version .*", "Version …\r", text)
    text = re.sub(r"midge_[0-9a-f]{6}", "midge_xxxxxx", text)
    return re.sub(r"port(:?) \d+", r"port\1 N", text).replace("\r\n", "~\n").replace("\r", "^M")


def two_consoles_talk_as_the_golden_transcript_says(workdir):
    site = Site(workdir).start()
    consoles = {"a": Console(site), "b": Console(site)}
    transcript = []
    for row in DIALOGUE.strip("\n").splitlines():
        who, _, line = row.partition(" ")
        console = consoles[who[0]]
        said = console.hear() if who.endswith("!") else console.ask(line)
        transcript.append(f"{row}\n{timeless(said)}\n")
    assert consoles["b"].closes()
    # Neither has heard a word that was meant for the other.
    assert not consoles["a"].rest and not consoles["b"].rest
    text = "".join(transcript)
    if os.environ.get("GOLDEN") == "write":
        GOLDEN.write_text(text)
    expected = GOLDEN.read_text()
    for number, (got, wanted) in enumerate(zip(text.splitlines(), expected.splitlines()), 1):
        assert got == wanted, f"line {number}: {got!r}, expected {wanted!r}"
    assert text == expected
    site.stop()
    show(f"{len(transcript)} commands of two consoles, {len(text.splitlines())} lines")


def nc(port, text, where="127.0.0.1"):
    """cat FILE | nc HOST PORT"""
    with socket.create_connection((where, port), 10) as conn:
        conn.sendall(text.encode())
        conn.shutdown(socket.SHUT_WR)


def a_script_is_uploaded_as_by_nc(workdir):
    site = Site(workdir).start()
    console, port = Console(site), free_port()
    assert console.ask(f"script {port}") == f"Waiting for script upload on port {port}\r\nCMD>"
    other = Console(site)
    assert "another upload" in other.ask(f"script {free_port()}") + other.hear()
    nc(port, COMPAT)
    assert console.hear() == f"\rScript upload completed ({len(COMPAT)} Bytes)\r\nSyntax okay\r\nCMD>"
    assert "on topic local cmd" in console.ask("show script") and "Script disabled" in console.ask("show mqtt")
    # It does not run before the next start, as ever; unless it is told to.
    site.talk("mosquitto_pub", "-t", "cmd", "-m", "nobody")
    port = free_port()
    console.ask(f"script {port} run")
    nc(port, COMPAT.replace("on init do", "on init do subscribe local cmd"))
    said = console.hear()
    said += console.hear(b"14\r\n") if "14" not in said else ""
    assert "Syntax okay" in said and "nobody" not in said, said
    site.talk("mosquitto_pub", "-t", "cmd", "-m", "heard")
    assert console.hear(b"heard\r\n") == "heard\r\n" and other.hear(b"heard\r\n").endswith("heard\r\n")
    # One with an error replaces nothing.
    port = free_port()
    console.ask(f"script {port}")
    nc(port, "on init println 1\n")
    assert "Error ('do' expected) at >>println 1 " in console.hear()
    assert "Script enabled" in console.ask("show mqtt")
    console.ask("script revert")
    assert "subscribe" not in console.ask("show script")
    console.ask("script delete")
    assert console.ask("show script") == "CMD>"
    # A kill -9 later the script and what was saved are there.
    port = free_port()
    console.ask("set ssid kept")
    console.ask("save")
    console.ask("set ssid lost")
    console.ask(f"script {port}")
    nc(port, COMPAT)
    console.hear()
    time.sleep(0.5)
    site.process.kill()
    site.process.wait()
    site.start()
    console = Console(site)
    assert "SSID:kept" in console.ask("show config") and "on topic local cmd" in console.ask("show script")
    site.stop()


class Web(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/script")
        elif self.path == "/loop":
            self.send_response(302)
            self.send_header("Location", "/loop")
        elif self.path == "/script":
            self.send_response(200)
        elif self.path == "/endless":
            self.send_response(200)
        else:
            self.send_response(404)
        self.end_headers()
        try:
            if self.path == "/script":
                self.wfile.write(COMPAT.encode())
            while self.path == "/endless":
                self.wfile.write(b"x" * 65536)
        except OSError:
            pass

    def log_message(self, *_):
        pass


def a_script_is_fetched_over_http(workdir):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_port}"
    site = Site(workdir).start()
    console = Console(site)
    for path in ("script", "moved"):
        assert console.ask(f"script {base}/{path}") == f"HTTP request to {base}/{path} started\r\nCMD>"
        expected = f"\rHTTP script download completed ({len(COMPAT)} Bytes)\r\nSyntax okay\r\nCMD>"
        assert console.hear() == expected
    assert "on topic local cmd" in console.ask("show script")
    for path, words in (("none", "error code 404"), ("endless", "script too long"), ("loop", "too many redirects")):
        console.ask(f"script {base}/{path}")
        assert console.hear() == f"\rHTTP script upload failed ({words})\r\nCMD>", path
    console.ask(f"script http://127.0.0.1:{free_port()}/")
    assert "error code -1" in console.hear()
    site.stop()


def a_script_is_fetched_over_https(workdir):
    """From a server whose authority the operator trusts, also where plain HTTP says that it has moved there."""
    workdir.mkdir(exist_ok=True)
    certified(workdir)
    secure = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(workdir / "own.pem", workdir / "own.key")
    secure.socket = context.wrap_socket(secure.socket, server_side=True)
    base = f"https://localhost:{secure.server_port}"

    class Moved(Web):
        def do_GET(self):
            self.send_response(301)
            self.send_header("Location", f"{base}/moved")
            self.end_headers()

    plain = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Moved)
    for server in (secure, plain):
        threading.Thread(target=server.serve_forever, daemon=True).start()
    site = Site(workdir, f'[script]\nca_file = "{workdir}/ca.pem"').start()
    console = Console(site)
    for url in (f"{base}/script", f"{base}/moved", f"http://127.0.0.1:{plain.server_port}/"):
        console.ask(f"script {url}")
        assert "Syntax okay" in console.hear(), url
        assert "on topic local cmd" in console.ask("show script")
        console.ask("script delete")
    site.stop()
    # Without the authority nobody is believed.
    site = Site(workdir).start()
    console = Console(site)
    console.ask(f"script {base}/script")
    assert "error code -1" in console.hear() and console.ask("show script") == "CMD>"
    site.stop()


def a_reset_starts_the_same_process_again(workdir):
    site = Site(workdir).start()
    console = Console(site)
    console.ask("set ssid kept")
    console.ask("save")
    console.ask("set ssid lost")
    site.talk("mosquitto_pub", "-t", "kept/x", "-m", "1", "-r", "-q", "1")
    console.conn.sendall(b"reset\n")
    console.closes()
    until("the site is there again", site.answers)
    assert site.process.poll() is None, "the same process goes on"
    assert "Restarting" in site.log.read_text()
    again = Console(site)
    assert "SSID:kept" in again.ask("show config") and '"kept/x" len: 1' in again.ask("show mqtt")
    again.conn.sendall(b"reset factory\n")
    again.closes()
    until("the site is there again", site.answers)
    last = Console(site)
    assert "SSID:ssid" in last.ask("show config") and '"kept/x" len: 1' in last.ask("show mqtt")
    site.stop()


def a_site_that_would_not_come_back_does_not_go(workdir):
    site = Site(workdir).start()
    console, conf = Console(site), workdir / "site.toml"
    console.ask("set ssid kept")
    good = conf.read_text()
    conf.write_text(good + "[site\n")
    console.ask("reset factory")
    said = console.hear()
    assert said.startswith("\rNo restart: ") and "site.toml" in said, said
    assert "SSID:kept" in console.ask("show config"), "nothing has changed"
    conf.write_text(good)
    console.conn.sendall(b"reset\n")
    console.closes()
    until("the site is there again", site.answers)
    site.stop()
    if os.geteuid() != 0:
        return show("NOT RUN without root: a site that has left root behind")
    # Whom it becomes may not read the passwords once more.
    for folder in (workdir.parent, workdir):
        folder.chmod(0o755)
    passwords = workdir / "passwords"
    subprocess.run([MIDGE, "passwd", "-b", "-c", str(passwords), "bob", "geheim"], check=True, capture_output=True)
    passwords.chmod(0o600)
    access = f'allow_anonymous = true\npassword_file = "{passwords}"\n'
    conf.write_text(good.replace("[site]\n", '[site]\nuser = "nobody"\n').replace("[console]\n", access + "[console]\n"))
    site.start()
    console = Console(site)
    console.ask("reset")
    said = console.hear()
    assert said.startswith("\rNo restart: ") and "passwords" in said and "ermission denied" in said, said
    assert site.talk("mosquitto_pub", "-t", "x", "-m", "1", "-u", "bob", "-P", "geheim").returncode == 0
    assert "no restart" in site.log.read_text()
    site.stop()


def settings_reach_what_runs(workdir):
    other = Site(workdir / "other").start()
    site = Site(workdir, '[script]\ninterface = "lo"').start()
    console, port = Console(site), free_port()
    console.ask(f"script {port}")
    nc(port, "on wificonnect do println net\non mqttconnect do subscribe remote r/#\n"
             "on topic remote r/# do publish local from_remote $this_data retained\n")
    console.hear()
    for line in ("set mqtt_host 127.0.0.1", f"set mqtt_port {other.port}", "set mqtt_id cabin-7", "set backlog 1000",
                 "save"):
        console.ask(line)
    assert "MQTT client disconnected" in console.ask("show mqtt"), "the remote broker counts at the next start"
    console.conn.sendall(b"reset\n")
    console.closes()
    until("the site is there again", site.answers)
    console = Console(site)
    until("the remote broker is there", lambda: "MQTT client connected" in console.ask("show mqtt"))
    assert "MQTT client id: cabin-7\r\n" in console.ask("show config")
    assert console.ask("publish remote room/lamp on retained") == "Published topic\r\nCMD>"
    assert other.talk("mosquitto_sub", "-t", "room/lamp", "-C", "1", "-W", "5").stdout == "on\n"
    until("it has subscribed", lambda: 'cabin-7: "r/#"' in Console(other).ask("show mqtt"))
    other.talk("mosquitto_pub", "-t", "r/1", "-m", "back", "-q", "1")
    assert site.talk("mosquitto_sub", "-t", "from_remote", "-C", "1", "-W", "5").stdout == "back\n"
    # `config` of a script is executed before anything is connected, and goes before what was saved.
    port = free_port()
    console.ask(f"script {port}")
    nc(port, "config mqtt_id byscript config ssid \"my net\" on init do println ready\n")
    console.hear()
    console.conn.sendall(b"reset\n")
    console.closes()
    until("the site is there again", site.answers)
    until("the script's client is there", lambda: "byscript" in json.dumps(other.clients()))
    assert "SSID:my net " in Console(site).ask("show config")
    site.stop()
    other.stop()


def settings_of_the_broker_hold_for_its_clients(workdir):
    site = Site(workdir).start()
    console = Console(site)

    def comes(*words):
        return site.talk("mosquitto_pub", "-t", "x", "-m", "1", *words).returncode

    assert comes() == 0
    console.ask("set broker_user bob")
    console.ask("set broker_password geheim")
    refused = site.talk("mosquitto_pub", "-t", "x", "-m", "1")
    assert refused.returncode == 5 and "not authorised" in refused.stderr, refused
    assert comes("-u", "bob", "-P", "wrong") == 5 and comes("-u", "eve", "-P", "geheim") == 5
    assert comes("-u", "bob", "-P", "geheim") == 0
    console.ask("save")
    console.conn.sendall(b"reset\n")
    console.closes()
    until("the site is there again", site.answers)
    console = Console(site)
    assert comes() == 5 and comes("-u", "bob", "-P", "geheim") == 0, "it was saved"
    console.ask("set broker_user none")
    assert comes() == 0
    console.ask("set broker_subscriptions 1")
    one = site.talk("mosquitto_sub", "-d", "-t", "a", "-t", "b", "-W", "1")
    assert "Subscribed (mid: 1): 0, 128" in one.stdout, one
    console.ask("set broker_retained_messages 1")
    assert comes("-r", "-t", "kept/1") == 0 and comes("-r", "-t", "kept/2") == 0
    shown = console.ask("show mqtt")
    assert '"kept/1"' in shown and '"kept/2"' not in shown, shown
    console.ask("set broker_access 2")
    assert comes() not in (0, 5), "this machine is internal"
    console.ask("set broker_access 1")
    assert comes() == 0
    console.ask("set broker_clients 1")
    only = subprocess.Popen(["mosquitto_sub", "-p", str(site.port), "-t", "x"])
    until("it is there", lambda: "Current clients: 1" in console.ask("show mqtt"))
    assert comes() not in (0, 5)
    only.kill()
    only.wait()
    until("its place is free", lambda: comes() == 0)
    assert site.status()["broker"]["turned_away"] >= 2
    # A site whose file names no listener has it where the settings say.
    site.stop()
    port, taken = free_port(), site.port
    plain = ["--data", str(site.data)]
    site.command = [MIDGE, "run", "-p", str(taken), "-c", str(workdir / "plain.toml"), *plain]
    (workdir / "plain.toml").write_text(f'[console]\nbind = "127.0.0.1:{site.console}"\n')
    site.start()
    console = Console(site)
    assert f"MQTT broker port: {taken}\r\n" in console.ask("show config")
    console.ask(f"set broker_port {port}")
    console.ask("set broker_clients 0")
    console.ask("save")
    site.stop()
    site.command = [MIDGE, "run", "-c", str(workdir / "plain.toml"), *plain]
    site.port = port
    site.start()
    assert comes("-u", "bob", "-P", "geheim") == 0
    assert f"MQTT broker port: {port}\r\n" in Console(site).ask("show config")
    site.stop()


def time_server(port_holder, ahead, asked):
    """An SNTP server whose clock is ahead."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))
    port_holder.append(server.getsockname()[1])
    while True:
        request, caller = server.recvfrom(100)
        asked.append(time.monotonic())
        stamp = int((time.time() + ahead + 2_208_988_800) * 2**32).to_bytes(8, "big")
        server.sendto(bytes([0x24, 2, 0, 0]) + bytes(12) + stamp + request[40:48] + stamp + stamp, caller)


def the_time_is_set_asked_for_and_shown(workdir):
    ports, asked = [], []
    threading.Thread(target=time_server, args=(ports, 7200, asked), daemon=True).start()
    until("the time server is there", lambda: ports)
    site = Site(workdir, '[script]\ntimezone = "+0"').start()
    console = Console(site)

    def ahead():
        said = re.search(r"(\d\d):(\d\d):(\d\d)", console.ask("time")).groups()
        now = time.gmtime()
        seconds = sum(int(part) * unit for part, unit in zip(said, (3600, 60, 1)))
        return (seconds - now.tm_hour * 3600 - now.tm_min * 60 - now.tm_sec + 43_200) % 86_400 - 43_200

    assert abs(ahead()) < 3 and not asked
    console.ask("set ntp_timezone 1")
    assert abs(ahead() - 3600) < 3
    # Who has a script is told the time without a server, too, as consoles show it.
    port = free_port()
    console.ask(f"script {port} run")
    nc(port, 'on init do subscribe local "$SYS/broker/time"\n'
             'on topic local "$SYS/broker/time" do publish local told $this_data retained\n')
    console.hear()
    told = site.talk("mosquitto_sub", "-t", "told", "-C", "4", "-W", "20").stdout.split()
    seconds = [sum(int(part) * unit for part, unit in zip(text.split(":"), (3600, 60, 1))) for text in told]
    assert all((after - before) % 86_400 == 1 for before, after in zip(seconds[1:], seconds[2:])), told
    assert seconds[-1] // 3600 == (time.gmtime().tm_hour + 1) % 24 or time.gmtime().tm_min in (0, 59), told
    console.ask("script delete")
    console.ask("set ntp_interval 1")
    assert console.ask(f"set ntp_server 127.0.0.1:{ports[0]}").startswith("NTP server set to 127.0.0.1")
    until("the server's time is here", lambda: abs(ahead() - 3600 - 7200) < 3)
    told = site.talk("mosquitto_sub", "-t", "$SYS/broker/time", "-C", "1", "-W", "5").stdout
    assert re.fullmatch(r"\d\d:\d\d:\d\d\n", told), told
    until("it is asked each second", lambda: len(asked) > 2)
    assert console.ask("set ntp_server none") == "NTP server set to none\r\nCMD>"
    time.sleep(1)
    before = len(asked)
    time.sleep(2.5)
    assert len(asked) == before, "nobody is asked any more"
    assert "NTP synced" in console.ask("show stats")
    # Set by hand, before the zone is added.
    console.ask("set ntp_time 10:00:00")
    assert re.search(r" 11:00:0[0-2]", console.ask("time"))
    console.ask("set ntp_weekday Wed")
    assert console.ask("time").startswith("Wed ")
    site.stop()


def a_script_speaks_to_the_console(workdir):
    site = Site(workdir).start()
    console, port = Console(site), free_port()
    console.ask(f"script {port} run")
    nc(port, 'on init do subscribe local cmd\non topic local cmd do system $this_data\n')
    console.hear()
    said = lambda line: site.talk("mosquitto_pub", "-t", "cmd", "-m", line)
    said("set ssid viascript")
    assert "SSID set" in console.hear(b"(auto_connect = 1)\r\n")
    assert "SSID:viascript" in console.ask("show config")
    console.ask("lock pw")
    # A lock does not hold for the script, and the script's commands do not lift it.
    said("set ssid locked%20in")
    console.hear(b"(auto_connect = 1)\r\n")
    said("save")
    assert "Config saved" in console.hear(b"saved\r\n")
    assert console.ask("save") == "Invalid command. Config locked\r\nCMD>"
    # A reset by the script starts the site again, locked as it was.
    said("reset")
    console.closes()
    until("the site is there again", site.answers)
    console = Console(site)
    assert "SSID:locked in PW:***" in console.ask("show config")
    assert console.ask("save") == "Invalid command. Config locked\r\nCMD>"
    assert site.status()["console"]["locked"] is True
    site.stop()


def what_a_host_cannot_apply_goes_to_the_hook(workdir):
    hook, heard = workdir / "hook", workdir / "heard"
    hook.write_text(f'#!/bin/sh\nif [ "$1" = scan ]; then echo \'3,"barn",-60,"00:11:22:33:44:55",6\'; exit; fi\n'
                    f'echo "$1 $2 $(cat)" >> {heard}\n')
    hook.chmod(0o755)
    site = Site(workdir, f'hook = "{hook}"').start()
    console = Console(site)
    console.ask("set ssid barn")
    console.ask("set broker_password geheim")
    until("the hook was told", lambda: heard.exists() and len(heard.read_text().splitlines()) == 3)
    assert sorted(heard.read_text().splitlines()) == ["set auto_connect 1", "set broker_password geheim",
                                                      "set ssid barn"]
    assert console.ask("scan") == "Scanning...\r\nCMD>"
    assert console.hear() == '\r3,"barn",-60,"00:11:22:33:44:55",6\r\nCMD>'
    site.stop()


def a_serial_line_is_a_console(workdir):
    line, other_end = os.openpty()
    tty.setraw(other_end)
    device = os.ttyname(other_end)
    site = Site(workdir, f'serial = true\n[serial]\ndevice = "{device}"').start()

    def hear(end, words=b""):
        """Reads until that end behind those words: there may be prompts for older lines."""
        said = b""
        while not (words in said and said.endswith(end)):
            assert select.select([line], [], [], 10)[0], said
            said += os.read(line, 4096)
        return said.decode()

    until("the line is open", lambda: os.write(line, b"\r") and select.select([line], [], [], 0.5)[0])
    os.write(line, b"set ssid barn\r")
    hear(PROMPT, b"SSID set (auto_connect = 1)")
    network, port = Console(site), free_port()
    assert "SSID:barn" in network.ask("show config")
    network.ask("lock pw")
    os.write(line, b"save\r")
    hear(PROMPT, b"Config locked")
    network.ask("unlock pw")
    # What the script says goes to the network while somebody is there, else to the line.
    network.ask(f"script {port} run")
    nc(port, "on serial do publish local line $this_serial retained serial_out got\n"
             "on init do subscribe local cmd\non topic local cmd do println $this_data\n")
    network.hear()
    site.talk("mosquitto_pub", "-t", "cmd", "-m", "one")
    assert "one" in network.hear(b"one\r\n")
    network.ask("quit")
    network.closes()
    site.talk("mosquitto_pub", "-t", "cmd", "-m", "two")
    said = hear(b"two\r\n")
    assert "one" not in said, said
    # Its speed is a setting, which scripts set before anything is opened.
    assert termios.tcgetattr(other_end)[4] == termios.B115200
    network = Console(site)
    network.ask(f"script {port} run")
    nc(port, "config bitrate 9600 on serial do publish local line $this_serial retained serial_out got\n"
             "on init do subscribe local cmd serial_out early\non topic local cmd do println $this_data\n")
    network.hear()
    network.conn.sendall(b"reset\n")
    network.closes()
    until("the site is there again", site.answers)
    hear(b"", b"early")
    assert termios.tcgetattr(other_end)[4] == termios.B9600
    assert "Serial bitrate: 9600" in Console(site).ask("show config")
    # Without output of the system the line belongs to the script.
    Console(site).ask("set system_output 0")
    os.write(line, b"hello\r")
    assert hear(b"got").endswith("got")
    assert site.talk("mosquitto_sub", "-t", "line", "-C", "1", "-W", "5").stdout == "hello\n"
    Console(site).ask("set system_output 2")
    os.write(line, b"quit\r")
    hear(b"CMD>")
    os.write(line, b"time\r")
    assert re.search(r"\d\d:\d\d:\d\d", hear(PROMPT, b":"))
    site.stop()
    os.close(line)
    os.close(other_end)


def the_command_is_a_console_of_this_machine(workdir):
    site = Site(workdir).start()
    lines = "set ssid near\nsave\nlock pw\nsave\nunlock pw\nquit\n"
    words = [MIDGE, "console", "--data", str(site.data)]
    near = subprocess.run(words, input=lines, capture_output=True, text=True, timeout=20)
    expected = ("CMD>SSID set (auto_connect = 1)\nCMD>Config saved\nCMD>Config locked (pw: pw)\n"
                "CMD>Invalid command. Config locked\nCMD>Config unlocked\nCMD>Quitting console\nCMD>")
    assert (near.returncode, near.stdout) == (0, expected), near
    far = [MIDGE, "console", f"127.0.0.1:{site.console}"]
    # Without `quit`: the end of the input is the end.
    told = subprocess.run(far, input="save\nshow config\n", capture_output=True, text=True, timeout=20)
    assert told.returncode == 0 and "CMD>Config saved\n" in told.stdout and "SSID:near" in told.stdout, told
    nobody = subprocess.run([MIDGE, "console", f"127.0.0.1:{free_port()}"], capture_output=True, text=True, timeout=20)
    assert nobody.returncode == 1 and "no console at" in nobody.stderr
    nobody = subprocess.run([MIDGE, "console", "--data", str(workdir / "x")], capture_output=True, text=True)
    assert nobody.returncode == 1 and "midge run" in nobody.stderr
    site.stop()


def what_nobody_should_send_harms_nobody(workdir):
    site = Site(workdir).start()
    before = site.rss_kb()
    console = Console(site)
    console.conn.sendall(b"x" * 1_000_000 + b"\n")
    assert "Line too long" in console.hear()
    for rubbish in (b"\xff\xfd\x18\xff\xfa\x1f\0\xff\xf0", b"\0\0\n", b"\xff\xff\n", bytes(range(255)) + b"\n"):
        console.conn.sendall(rubbish)
    console.conn.sendall(b"time\n")
    until("the rubbish is answered, and then the question", lambda: "Ddd hh" in timeless(console.hear()), 10)
    # Half-open and silent ones: sixteen talk, the rest is turned away, and a place that becomes free is taken.
    crowd = [socket.create_connection(("127.0.0.1", site.console), 10) for _ in range(60)]
    time.sleep(1)
    console.conn.close()
    until("somebody new is let in", lambda: [conn.close() for conn in crowd[:20]] and site.answers())
    for conn in crowd:
        conn.close()
    # One that asks and never reads.
    deaf = socket.create_connection(("127.0.0.1", site.console), 10)
    deaf.settimeout(1)
    try:
        for _ in range(20_000):
            deaf.sendall(b"help\n" * 100)
    except OSError:
        pass
    site.talk("mosquitto_pub", "-t", "kept/x", "-m", "served", "-r", "-q", "1")
    served = site.talk("mosquitto_sub", "-t", "kept/x", "-C", "1", "-W", "5")
    assert served.stdout == "served\n"
    # Wrong passwords wait, whoever else talks does not.
    guesser, other = until("a place", lambda: site.answers() and Console(site)), Console(site)
    other.ask("lock pw")
    guesser.conn.sendall(b"unlock x\n")
    began = time.monotonic()
    other.ask("time")
    assert time.monotonic() - began < 0.9
    assert "Invalid password" in guesser.hear() and time.monotonic() - began > 0.9
    deaf.close()
    assert site.rss_kb() < before + 20_000
    site.stop()


TESTS = [two_consoles_talk_as_the_golden_transcript_says, a_script_is_uploaded_as_by_nc, a_script_is_fetched_over_http,
         a_script_is_fetched_over_https,
         a_reset_starts_the_same_process_again,
         a_site_that_would_not_come_back_does_not_go, settings_reach_what_runs,
         settings_of_the_broker_hold_for_its_clients, the_time_is_set_asked_for_and_shown,
         a_script_speaks_to_the_console, what_a_host_cannot_apply_goes_to_the_hook, a_serial_line_is_a_console,
         the_command_is_a_console_of_this_machine,
         what_nobody_should_send_harms_nobody]


if __name__ == "__main__":
    run(TESTS)
