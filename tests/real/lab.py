"""A small internet on one machine: private networks behind NATs and one public host, in network namespaces.

Everything that is made here is named after this process and removed at the end; no packet leaves the namespaces.
Needs root, iproute2, nftables and conntrack.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000

PUBLIC = "203.0.113.1"
STUN_PORT = 3478
MAILBOX_PORT = 1883


def sh(*words, check=True, **options):
    return subprocess.run([str(w) for w in words], check=check, capture_output=True, text=True, **options)


class Lab:
    """`kinds` maps a site's letter to its NAT: open, cone, symmetric or udp-blocked."""

    def __init__(self, kinds, workdir):
        self.kinds = kinds
        self.workdir = Path(workdir)
        self.tag = f"mg{os.getpid() % 100000}"
        self.children = []
        self.numbers = {site: 10 * (i + 1) for i, site in enumerate(kinds)}
        self.extra_public = {}

    # namespaces -----------------------------------------------------------------------------------------------
    def ns(self, host):
        return f"{self.tag}-{host}"

    def inside(self, host, *words, check=True):
        return sh("ip", "netns", "exec", self.ns(host), *words, check=check)

    def __enter__(self):
        self._remove()
        for host in ["pub", *[f"nat-{s}" for s in self.kinds], *self.kinds]:
            sh("ip", "netns", "add", self.ns(host))
            sh("ip", "-n", self.ns(host), "link", "set", "lo", "up")
        pub = self.ns("pub")
        sh("ip", "-n", pub, "link", "add", "br0", "type", "bridge")
        sh("ip", "-n", pub, "addr", "add", f"{PUBLIC}/24", "dev", "br0")
        sh("ip", "-n", pub, "link", "set", "br0", "up")
        self.inside("pub", "sysctl", "-qw", "net.ipv4.ip_forward=1")
        for site, kind in self.kinds.items():
            self._site(site, kind)
        # A relay that is told "network unreachable" gives up its allocation: private addresses vanish instead.
        sh("ip", "-n", pub, "route", "add", "blackhole", "10.0.0.0/8", "metric", "100")
        return self

    def _site(self, site, kind):
        number = self.numbers[site]
        pub, nat, lan = self.ns("pub"), self.ns(f"nat-{site}"), self.ns(site)
        a, b = f"{self.tag}v{site}", f"{self.tag}w{site}"
        sh("ip", "link", "add", a, "netns", pub, "type", "veth", "peer", "name", b, "netns", nat)
        sh("ip", "-n", pub, "link", "set", a, "master", "br0", "up")
        sh("ip", "-n", nat, "link", "set", b, "name", "wan", "up")
        sh("ip", "-n", nat, "addr", "add", f"203.0.113.{number}/24", "dev", "wan")
        sh("ip", "-n", nat, "route", "add", "default", "via", PUBLIC)
        sh("ip", "link", "add", "lan", "netns", nat, "type", "veth", "peer", "name", "eth0", "netns", lan)
        sh("ip", "-n", nat, "link", "set", "lan", "up")
        sh("ip", "-n", nat, "addr", "add", f"10.{number}.0.1/24", "dev", "lan")
        sh("ip", "-n", lan, "link", "set", "eth0", "up")
        sh("ip", "-n", lan, "addr", "add", f"10.{number}.0.2/24", "dev", "eth0")
        sh("ip", "-n", lan, "route", "add", "default", "via", f"10.{number}.0.1")
        self.inside(f"nat-{site}", "sysctl", "-qw", "net.ipv4.ip_forward=1")
        if kind == "open":
            sh("ip", "-n", pub, "route", "add", f"10.{number}.0.0/24", "via", f"203.0.113.{number}")
        self._rules(site, kind)

    def _rules(self, site, kind):
        masquerade = {"open": "", "cone": 'oifname "wan" masquerade', "udp-blocked": 'oifname "wan" masquerade',
                      "symmetric": 'oifname "wan" masquerade random,fully-random'}[kind]
        closed = kind != "open"
        udp = "meta l4proto udp drop" if kind == "udp-blocked" else ""
        through = 'ct state established,related accept; iifname "wan" drop' if closed else ""
        own = 'iifname "wan" ct state new drop' if closed else ""
        rules = f"""table ip lab {{
          chain out {{ type nat hook postrouting priority srcnat; {masquerade}
          }}
          chain through {{ type filter hook forward priority 0; policy accept; {udp}
            {through}
          }}
          chain self {{ type filter hook input priority 0; policy accept; {own}
          }}
        }}"""
        self.inside_input(f"nat-{site}", rules, "nft", "-f", "-")

    def inside_input(self, host, text, *words):
        return sh("ip", "netns", "exec", self.ns(host), *words, input=text)

    def __exit__(self, *_):
        for child in self.children:
            stop(child)
        self._remove()

    def _remove(self):
        listed = sh("ip", "netns", "list", check=False).stdout
        for name in [line.split()[0] for line in listed.splitlines() if line.startswith(self.tag + "-")]:
            sh("ip", "netns", "del", name, check=False)

    # faults ---------------------------------------------------------------------------------------------------
    def cut(self, site):
        sh("ip", "-n", self.ns(f"nat-{site}"), "link", "set", "wan", "down")

    def heal(self, site):
        sh("ip", "-n", self.ns(f"nat-{site}"), "link", "set", "wan", "up")
        sh("ip", "-n", self.ns(f"nat-{site}"), "route", "replace", "default", "via", PUBLIC)

    def readdress(self, site):
        """Another public address for the site's NAT, all mappings forgotten."""
        nat = self.ns(f"nat-{site}")
        old = sh("ip", "-n", nat, "-4", "-o", "addr", "show", "wan").stdout.split()[3]
        last = int(old.split("/")[0].rsplit(".", 1)[1]) + 100
        sh("ip", "-n", nat, "addr", "del", old, "dev", "wan")
        sh("ip", "-n", nat, "addr", "add", f"203.0.113.{last}/24", "dev", "wan")
        sh("ip", "-n", nat, "route", "replace", "default", "via", PUBLIC)
        sh("ip", "netns", "exec", nat, "conntrack", "-F", check=False)

    # programs -------------------------------------------------------------------------------------------------
    def start(self, host, *words, log):
        out = open(self.workdir / log, "ab")
        child = subprocess.Popen(["ip", "netns", "exec", self.ns(host), *[str(w) for w in words]],
                                 stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        self.children.append(child)
        return child

    def mailbox(self):
        conf = self.workdir / "mailbox.conf"
        conf.write_text(f"listener {MAILBOX_PORT} {PUBLIC}\nallow_anonymous true\npersistence false\nuser root\n")
        mailbox = self.start("pub", shutil.which("mosquitto", path="/usr/sbin:/usr/bin"), "-c", conf, log="mailbox.log")
        self._await_port("tcp", MAILBOX_PORT)
        return mailbox

    def turn(self):
        conf = self.workdir / "turn.conf"
        conf.write_text(f"listening-port={STUN_PORT}\nlistening-ip={PUBLIC}\nrelay-ip={PUBLIC}\nuser=midge:secret\n"
                        "realm=lab\nlt-cred-mech\nfingerprint\nno-tls\nno-dtls\nno-cli\nsimple-log\nlog-file=stdout\n"
                        f"pidfile={self.workdir}/turn.pid\nuserdb={self.workdir}/turn.db\n"
                        "allow-loopback-peers\n")
        turn = self.start("pub", "turnserver", "-c", conf, log="turn.log")
        self._await_port("udp", STUN_PORT)
        return turn

    def _await_port(self, protocol, port):
        def is_bound():
            rows = self.inside("pub", "cat", f"/proc/net/{protocol}").stdout.splitlines()[1:]
            return any(int(row.split()[1].split(":")[1], 16) == port for row in rows)

        until(f"{protocol} port {port} is bound", is_bound, 20)

    def call(self, host, function, *args):
        """Runs `function` on a thread inside the host's namespace: its sockets, and its threads, stay there."""
        result = {}

        def work():
            with open(f"/var/run/netns/{self.ns(host)}") as handle:
                if _libc.setns(handle.fileno(), _CLONE_NEWNET) != 0:
                    result["error"] = OSError(ctypes.get_errno(), "setns")
                    return
            try:
                result["value"] = function(*args)
            except BaseException as error:  # handed to the caller, whatever it is
                result["error"] = error

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join()
        if "error" in result:
            raise result["error"]
        return result["value"]

    def link_bytes(self, site):
        """Bytes that crossed the site's WAN interface so far, both directions."""
        base = "/sys/class/net/wan/statistics"
        read = self.inside(f"nat-{site}", "cat", f"{base}/rx_bytes", f"{base}/tx_bytes").stdout.split()
        return sum(int(n) for n in read)


def stop(child, how=signal.SIGTERM, patience=5):
    if child.poll() is not None:
        return child.returncode
    child.send_signal(how)
    try:
        return child.wait(patience)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()


def until(what, condition, seconds, step=0.02):
    """Waits for a truthy value and returns it and the seconds that it took."""
    began = time.monotonic()
    while True:
        with contextlib.suppress(OSError, subprocess.CalledProcessError, ValueError):
            value = condition()
            if value:
                return value, time.monotonic() - began
        if time.monotonic() - began > seconds:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(step)
