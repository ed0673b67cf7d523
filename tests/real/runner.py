"""Runs the tests of a script, each in a folder of its own, and says how they went."""

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

LINES_SHOWN = 25


def run(tests):
    """Those named as arguments, or all of them; never returns."""
    names = sys.argv[1:]
    known = [test.__name__ for test in tests]
    for name in names:
        if name not in known:
            sys.exit(f"no test {name}; there are {', '.join(known)}")
    passed, failed = 0, 0
    for test in [test for test in tests if not names or test.__name__ in names]:
        if works(test):
            passed += 1
        else:
            failed += 1
            end_children()
    print(f"{passed} passed, {failed} failed", flush=True)
    # A test that failed may have left threads behind: nobody waits for those.
    os._exit(1 if failed else 0)


def end_children():
    """What a failed test has left running would disturb the next one."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # PID (NAME) STATE PARENT …; a name may have anything in it.
            pid, parent = int(stat.parent.name), int(stat.read_text().rsplit(")", 1)[1].split()[1])
            if parent == os.getpid():
                os.kill(pid, signal.SIGKILL)


def works(test):
    workdir = Path(tempfile.mkdtemp(prefix="midge-real-"))
    print(test.__name__, flush=True)
    began = time.monotonic()
    try:
        test(workdir)
    except Exception:
        print(traceback.format_exc(), end="")
        for log in sorted(workdir.glob("**/*.log")):
            print(f"  the end of {log.name}:")
            for line in log.read_text(errors="replace").splitlines()[-LINES_SHOWN:]:
                print(f"    {line[:200]}")
        print(f"  FAILED; logs in {workdir}", flush=True)
        return False
    print(f"  ok ({time.monotonic() - began:.0f} s)", flush=True)
    shutil.rmtree(workdir, ignore_errors=True)
    return True
