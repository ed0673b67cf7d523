"""Scripts on a running site, heard and answered by mosquitto's clients: two of the examples of docs/rules.md, then the
web, a remote broker with and without TLS, reloading, a restart, and a script that wants everything for itself."""

import http.server
import json
import os
import signal
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path

import runner
from program import MIDGE, ROOT, certified, free_port, until

EXAMPLES = ROOT / "examples/rules"




class Site:
    """One midge on loopback with a script."""

    def __init__(self, workdir, script="", config=""):
        self.workdir, self.port = workdir, free_port()
        self.script = workdir / "rules.midge"
        self.script.write_text(script)
        self.data = workdir / "data"
        self.log = workdir / "site.log"
        conf = workdir / "site.toml"
        conf.write_text(f'[[listener]]\nbind = "127.0.0.1:{self.port}"\n[script]\nfile = "{self.script}"\n{config}\n')
        self.command = [MIDGE, "run", "-c", str(conf), "--data", str(self.data)]
        self.process = None

    def start(self):
        with self.log.open("a") as log:
            self.process = subprocess.Popen(self.command, stderr=log, stdout=log)
        until("the site serves", lambda: self.status() is not None)
        return self

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        self.process.wait(20)

    def status(self):
        asked = subprocess.run([MIDGE, "status", "--json", "--data", str(self.data)], capture_output=True, text=True)
        return json.loads(asked.stdout) if asked.returncode == 0 else None

    def says(self, text, seconds=15):
        until(f"'{text}' in the log", lambda: text in self.log.read_text(), seconds)

    def ask(self, *words, text=None, code=0):
        done = subprocess.run([MIDGE, "script", *words, "--data", str(self.data)], input=text, capture_output=True,
                              text=True)
        assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
        return done.stdout + done.stderr

    def publish(self, topic, payload, port=None):
        port = str(port or self.port)
        subprocess.run(["mosquitto_pub", "-p", port, "-q", "1", "-t", topic, "-m", payload], check=True, timeout=10)

    def heard(self, topic, port=None):
        """Begins to listen; the answer is the next message."""
        port = str(port or self.port)
        command = ["stdbuf", "-oL", "mosquitto_sub", "-p", port, "-t", topic, "-C", "1", "-W", "15", "-v", "-d"]
        listener = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for line in listener.stdout:
            if line.startswith("Subscribed"):
                break

        def message():
            said = [line.rstrip("\n") for line in listener.stdout if not line.startswith("Client ")]
            listener.wait()
            return said[0] if said else None

        return message


def retained(site, topic):
    done = subprocess.run(["mosquitto_sub", "-p", str(site.port), "-t", topic, "-C", "1", "-W", "2"],
                          capture_output=True, text=True)
    return done.stdout.strip()


def thermostat_example(workdir):
    """Measured values in, the valve's position out; the wanted value survives kill -9."""
    site = Site(workdir, (EXAMPLES / "thermostat.midge").read_text()).start()
    for topic, payload, valve in [
        ("room/temperature", "19.9", "open"),
        ("room/temperature", "21.1", "closed"),
        ("room/wanted", "22.5", "closed"),
        ("room/temperature", "21.1", "open"),
        ("room/temperature", "ERR", "open"),
    ]:
        site.publish(topic, payload)
        until(f"the valve is {valve} after {payload}", lambda v=valve: retained(site, "room/valve") == v)
    site.says("the sensor says: ERR")
    assert site.status()["script"]["faults"] == {"script": 1}
    # Flash variables are stored every five seconds.
    time.sleep(5.5)
    site.stop(signal.SIGKILL)
    site.start()
    site.publish("room/temperature", "23.2")
    site.publish("room/temperature", "21.9")
    until("22.5 is still wanted", lambda: retained(site, "room/valve") == "open")
    site.stop()


def sensor_example(workdir):
    """One JSON document becomes a topic for each value."""
    site = Site(workdir, (EXAMPLES / "sensor.midge").read_text()).start()
    warning = site.heard("warnings")
    site.publish("sensors/attic", '{"id":"a7","data":[{"t":21.46},{"h":48}],"battery":{"volt":2.6,"low":true}}')
    assert warning() == 'warnings {"sensor":"attic","volt":2.6}'
    assert retained(site, "values/attic/temperature") == "21.5"
    assert retained(site, "values/attic/humidity") == "48"
    site.publish("sensors/shed", "hello")
    site.says("shed sent no temperature: hello")
    site.stop()


def flash_and_reload(workdir):
    """A counter survives kill -9; SIGHUP reads the file; errors replace nothing; the one before comes back."""
    script = '% midge\non init do setvar @1 = @1 + 1 publish local "starts", "A" | @1 retained'
    site = Site(workdir, script).start()
    until("the first start is counted", lambda: retained(site, "starts") == "A1")
    site.stop(signal.SIGKILL)
    site.start()
    until("the second start is counted", lambda: retained(site, "starts") == "A2")
    site.script.write_text(script.replace('"A"', '"B"'))
    site.process.send_signal(signal.SIGHUP)
    until("the new script runs", lambda: retained(site, "starts") == "B3")
    said = site.ask("load", "-", text="% midge\non init do\n  fly\n", code=1)
    assert "script:3:3" in said and "^^^" in said, said
    assert site.status()["script"]["running"]
    site.ask("revert")
    until("the old script runs", lambda: retained(site, "starts") == "A4")
    site.ask("delete")
    assert site.status()["script"] is None
    assert "no script" in site.ask("show", code=1)
    site.stop()


class Pages(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.reply(201, f"{self.headers['X-Key']}:{body.decode()}")

    def do_GET(self):
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/here")
            self.end_headers()
        elif self.path == "/huge":
            self.send_response(200)
            self.end_headers()
            try:
                for _ in range(1024):
                    self.wfile.write(b"x" * (1 << 20))
            except OSError:
                pass
        else:
            self.reply(200, self.path)

    def reply(self, code, text):
        self.send_response(code)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


WEB = """% midge
on init do subscribe local "get" subscribe local "post"
on topic local "get" do http_get $this_data
on topic local "post" do http_post $this_data, "data" header "X-Key", "k1"
on http_response do publish local "web", $this_http_code | " " | $this_http_body
"""


def the_web(workdir):
    """GET and POST, a redirect, an answer of 1 GB, a server that never answers, and nobody else waits for any of it."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    silent = socket.create_server(("127.0.0.1", 0))
    site = Site(workdir, WEB, '[limits]\nscript_http_timeout = "2 s"').start()
    at = f"http://127.0.0.1:{server.server_port}"
    for topic, url, expected in [
        ("get", f"{at}/x?y=1", "web 200 /x?y=1"),
        ("post", f"{at}/p", "web 201 k1:data"),
        ("get", f"{at}/moved", "web 200 /here"),
        ("get", f"{at}/huge", "web -1 "),
        ("get", f"http://127.0.0.1:{silent.getsockname()[1]}/", "web -1 "),
    ]:
        listen = site.heard("web")
        began = time.monotonic()
        site.publish(topic, url)
        site.publish("other", "x")
        assert time.monotonic() - began < 1.5, "somebody waited for the web"
        assert listen() == expected, url
    assert memory_kb(site) < 100_000, memory_kb(site)
    site.stop()


def memory_kb(site):
    for line in Path(f"/proc/{site.process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1])
    return 0


REMOTE = """% midge
on init do subscribe local "up/#"
on mqttconnect do subscribe remote "down/#" qos 1 println "remote is there"
on mqttdisconnect do println "remote has gone"
on topic local "up/#" do publish remote "from/" | $1, $this_data qos 1
on topic remote "down/#" do publish local "got/" | $1, $this_data
"""


def mosquitto(workdir, port, lines=""):
    conf = workdir / "mosquitto.conf"
    conf.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n{lines}\n")
    with (workdir / "mosquitto.log").open("a") as log:
        process = subprocess.Popen(["mosquitto", "-c", str(conf)], stderr=log, stdout=log)

    def is_open():
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    until("mosquitto listens", is_open)
    return process


def there_and_back(site, port):
    listen = site.heard("from/#", port)
    site.publish("up/x", "1")
    assert listen() == "from/x 1"
    listen = site.heard("got/#")
    site.publish("down/y", "2", port)
    assert listen() == "got/y 2"


def remote_broker(workdir):
    """Both ways; the broker goes and comes; what has QoS 1 meanwhile arrives."""
    port = free_port()
    broker = mosquitto(workdir, port)
    site = Site(workdir, REMOTE, f'remote = "mqtt://127.0.0.1:{port}"').start()
    site.says("remote is there")
    there_and_back(site, port)
    broker.terminate()
    broker.wait()
    site.says("remote has gone")
    site.publish("up/late", "3")
    broker = mosquitto(workdir, port)
    listen = site.heard("from/#", port)
    assert listen() == "from/late 3"
    site.stop()
    broker.terminate()


def remote_broker_with_tls(workdir):
    """A certificate of the operator's own authority is believed; without it the broker is not."""
    certified(workdir)
    port, plain = free_port(), free_port()
    tls = f"certfile {workdir}/own.pem\nkeyfile {workdir}/own.key\nlistener {plain} 127.0.0.1"
    os.chmod(workdir, 0o755)
    os.chmod(workdir / "own.key", 0o644)
    broker = mosquitto(workdir, port, tls)
    remote = f'remote = "mqtts://localhost:{port}"'
    site = Site(workdir, REMOTE, remote).start()
    site.says("UnknownIssuer")
    site.stop()
    site = Site(workdir, REMOTE, f'{remote}\nca_file = "{workdir}/ca.pem"').start()
    site.says("remote is there")
    there_and_back(site, plain)
    site.stop()
    broker.terminate()


GREEDY = """% midge
on init do subscribe local "#" settimer 1, 1
on timer 1 do settimer 1, 1 setvar $i = 0 while $i < 100000 do setvar $i = $i + 1 done
on topic local "#" do setvar $i = 0 while $i < 100000 do setvar $i = $i + 1 done
"""


def greedy_script(workdir):
    """Endless loops on every timer and message: clients notice little, the script's faults are counted."""
    site = Site(workdir, GREEDY).start()
    listen = site.heard("answer")
    slowest = 0
    for number in range(50):
        began = time.monotonic()
        site.publish(f"flood/{number}", "x")
        slowest = max(slowest, time.monotonic() - began)
    site.publish("answer", "there")
    assert listen() == "answer there"
    assert slowest < 2, f"{slowest:.1f} s for one publish"
    faults = site.status()["script"]["faults"]
    assert faults.get("steps", 0) > 10, faults
    log = site.log.read_text().count("Script, ")
    assert log < 20, f"{log} lines in the log"
    site.stop()


PINS = """% midge
on init do gpio_pinmode 5 output subscribe local "lamp"
on gpio_interrupt 4 pullup do publish local "switch", $this_gpio
on topic local "lamp" do gpio_out 5, $this_data gpio_pwm 6, $this_data * 500
"""


def simulated_pins(workdir):
    """A switch and a lamp that are files; a pin that the machine does not have is named."""
    switch, lamp, dimmer = workdir / "switch", workdir / "lamp", workdir / "dimmer"
    pins = f'[pins]\n4 = "sim:{switch}"\n5 = "sim:{lamp}"\n6 = "sim:{dimmer}"'
    site = Site(workdir, PINS, pins).start()
    until("the switch rests", switch.exists)
    # Its first level is no edge.
    time.sleep(0.3)
    listen = site.heard("switch")
    switch.write_text("0")
    assert listen() == "switch 0"
    site.publish("lamp", "1")
    until("the lamp is on", lambda: lamp.read_text() == "1")
    until("the dimmer is half way", lambda: dimmer.exists() and dimmer.read_text() == "500/1000")
    site.stop()
    site = Site(workdir, PINS, '[pins]\n4 = "gpiochip99:3"').start()
    site.says("gpiochip99")
    site.says("pin 5 is not in the configuration")
    site.stop()


GPIO_SIM = Path("/sys/kernel/config/gpio-sim")


def pins_of_the_kernel(workdir):
    """The same with lines of a GPIO chip that the kernel simulates, where it can."""
    if not GPIO_SIM.exists() or os.geteuid() != 0:
        print("    NOT PROVEN: no gpio-sim in this kernel, or no root: no GPIO line was driven or read", flush=True)
        return
    chip = GPIO_SIM / f"midge-{os.getpid()}"
    (chip / "bank0").mkdir(parents=True)
    try:
        (chip / "bank0/num_lines").write_text("2")
        (chip / "live").write_text("1")
        name, device = (chip / "bank0/chip_name").read_text().strip(), (chip / "dev_name").read_text().strip()
        lines = Path(f"/sys/devices/platform/{device}/{name}")
        (lines / "sim_gpio0/pull").write_text("pull-up")
        site = Site(workdir, PINS, f'[pins]\n4 = "{name}:0"\n5 = "{name}:1"').start()
        time.sleep(0.5)
        listen = site.heard("switch")
        (lines / "sim_gpio0/pull").write_text("pull-down")
        assert listen() == "switch 0"
        for level in ("1", "0"):
            site.publish("lamp", level)
            until(f"the lamp is {level}", lambda: (lines / "sim_gpio1/value").read_text().strip() == level)
        site.stop()
    finally:
        (chip / "live").write_text("0")
        (chip / "bank0").rmdir()
        chip.rmdir()


def time_server(port_holder, ahead):
    """Answers as a server whose clock is ahead."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        port_holder.append(server.getsockname()[1])
        while True:
            request, asker = server.recvfrom(512)
            seconds = time.time() + ahead + 2208988800
            stamp = struct.pack("!II", int(seconds), int(seconds % 1 * 2**32))
            server.sendto(b"\x24\x02" + bytes(14) + stamp + request[40:48] + stamp + stamp, asker)


def time_of_a_server(workdir):
    """Local time is the server's, in the zone of the configuration, and told each second."""
    ports = []
    threading.Thread(target=time_server, args=(ports, 7200), daemon=True).start()
    until("the time server is there", lambda: ports)
    script = '% midge\non init do subscribe local "when"\non topic local "when" do publish local "then", $timestamp'
    site = Site(workdir, script, f'timezone = "+1"\n[ntp]\nserver = "127.0.0.1:{ports[0]}"').start()
    # To the half of what the question took.
    site.says("clock differs by +7")
    expected = time.strftime("%H:%M", time.gmtime(time.time() + 7200 + 3600))
    for topic in ["$SYS/broker/time", "then"]:
        listen = site.heard(topic)
        site.publish("when", "")
        said = listen()
        late = time.strftime("%H:%M", time.gmtime(time.time() + 7200 + 3600))
        assert said.startswith((f"{topic} {expected}:", f"{topic} {late}:")), said
    site.stop()


def of_its_own(workdir):
    """`midge script run`: a broker for one script, gone with it."""
    port = free_port()
    script = workdir / "echo.midge"
    script.write_text('% midge\non init do subscribe local "a"\non topic local "a" do println "heard " | $this_data')
    with (workdir / "run.log").open("w") as log:
        process = subprocess.Popen([MIDGE, "script", "run", "-p", str(port), str(script)], stdout=log, stderr=log)

    def heard():
        subprocess.run(["mosquitto_pub", "-p", str(port), "-t", "a", "-m", "you"], capture_output=True, check=False)
        return "Script: heard you" in (workdir / "run.log").read_text()

    until("the script hears", heard)
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0

runner.run([
    thermostat_example,
    sensor_example,
    flash_and_reload,
    the_web,
    remote_broker,
    remote_broker_with_tls,
    greedy_script,
    simulated_pins,
    pins_of_the_kernel,
    time_of_a_server,
    of_its_own,
])
