"""One midge in a namespace of the lab: its files, its process, its status."""

import json
import signal
import subprocess
import sys
from pathlib import Path

from lab import MAILBOX_PORT, PUBLIC, STUN_PORT, sh, stop, until
from program import MIDGE



class Site:
    def __init__(self, lab, host, name, token=None, turn=False, stun=True, mesh="", mailbox=True, top=""):
        self.lab, self.host, self.name = lab, host, name
        self.data = lab.workdir / name
        self.conf = lab.workdir / f"{name}.toml"
        lines = ["[site]", f'name = "{name}"', top, "[mesh]"]
        if mailbox:
            lines.append(f'mailbox = ["mqtt://{PUBLIC}:{MAILBOX_PORT}"]')
        if stun:
            lines.append(f'stun = ["{PUBLIC}:{STUN_PORT}"]')
        if turn:
            lines.append(f'turn = ["turn:midge:secret@{PUBLIC}:{STUN_PORT}"]')
        self.conf.write_text("\n".join([*lines, mesh]) + "\n")
        if token is None:
            self.token = sh(MIDGE, "create", "--data", self.data).stdout.strip()
        else:
            sh(MIDGE, "join", token, "--data", self.data)
            self.token = token
        self.process = None

    def start(self):
        self.process = self.lab.start(self.host, MIDGE, "run", "-v", "-c", self.conf, "--data", self.data,
                                      log=f"{self.name}.log")
        return self

    def kill(self):
        """kill -9, as the end of power looks to a program."""
        stop(self.process, signal.SIGKILL)

    def restart(self):
        self.kill()
        return self.start()

    def stop(self):
        return stop(self.process)

    def status(self):
        out = subprocess.run([MIDGE, "status", "--json", "--data", str(self.data)], capture_output=True, text=True)
        if out.returncode != 0:
            raise ValueError(out.stderr)
        return json.loads(out.stdout)

    def peer(self, name):
        for peer in (self.status().get("mesh") or {}).get("peers", []):
            if peer["name"] == name:
                return peer
        return None

    def linked(self, *others):
        peers = [self.peer(o.name) for o in others]
        return all(p and p["up"] and p["interest_confirmed"] for p in peers) and peers

    def pid(self):
        # `ip netns exec` becomes the program: the child is midge itself.
        return self.process.pid

    def rss_kb(self):
        for line in Path(f"/proc/{self.pid()}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1])
        return 0


def meet(*sites, seconds=30):
    """Waits until every site is linked with every other one."""
    for site in sites:
        others = [o for o in sites if o is not site]
        until(f"{site.name} linked with {[o.name for o in others]}", lambda s=site, o=others: s.linked(*o), seconds)


def show(text):
    print(f"    {text}", flush=True)
    sys.stdout.flush()
