"""`make demo`: the main job on real DICOM files, against a stand-in server on this machine.

Lays out a tree, uploads it with an exclusion file, then runs the same command again, which sends nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

from tests.dicom_trees import make_demo
from tests.standin import Project, StandIn, User

HOME = Path("demo")
_locks: list[IO[str]] = []  # open as long as the process lives
# Below a folder of the project's name, so that `--layout project/subject/session` takes the one above it.
TREE = HOME / "study" / "DEMO"
CONFIG = HOME / "Exclusions.json"
EXCLUDED = ["Localizers", "AAHEAD", "MoCoSeries", "JJWANGS"]
SERVER = HOME / "xnat"
PROGRAM = ".venv/bin/xnat-ingest"


def main() -> int:
    only_one()
    shutil.rmtree(HOME, ignore_errors=True)
    files = lay_out()
    print(f"{files} files laid out below {TREE}")
    print(f"what is not to be sent: {CONFIG}, with {', '.join(EXCLUDED)} (no folder here is called {EXCLUDED[-1]})")
    password = secrets.token_urlsafe(12)
    with make_site(password) as site:
        print(f"a stand-in for an XNAT server listens at {site.url}\n")
        environ = {**os.environ, "XNAT_HOST": site.url, "XNAT_USER": "demo", "XNAT_PASS": password}
        for run, title in enumerate(("The upload", "The same command again: nothing is sent twice"), 1):
            words = ["upload", str(TREE), "-P", "DEMO", "--config", str(CONFIG)]
            words += ["--report", str(HOME / f"report-{run}.json"), "--html", str(HOME / f"report-{run}.html")]
            print(f"== {title}\n$ {PROGRAM} {' '.join(words)}", flush=True)
            code = subprocess.run([sys.executable, "-m", "xnat_ingest", *words], env=environ).returncode
            print(flush=True)
            if code:
                return code
        return _judge(site)


def only_one() -> None:
    """Ends the program when a demo or its server already runs in this folder: they would use the same files."""
    name = hashlib.sha256(str(Path.cwd()).encode()).hexdigest()[:16]
    _locks.append((Path(tempfile.gettempdir()) / f"xnat-ingest-demo-{name}.lock").open("w"))
    try:
        fcntl.flock(_locks[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit("the demo or its server already runs in this folder; end it first")


def lay_out() -> int:
    """Makes the tree and the exclusion file. Returns the number of files in the tree."""
    HOME.mkdir(exist_ok=True)
    CONFIG.write_text(json.dumps({"Exclude": EXCLUDED}) + "\n")
    return make_demo(TREE)


def make_site(password: str, port: int = 0) -> StandIn:
    """The server: user demo may write into DEMO, user admin may do everything."""
    admin = User("admin", password, all_data=True)
    admin.container_manager = True
    project = Project("DEMO", code=4, access={"demo": "edit"})
    return StandIn(SERVER, projects=[project], users=[User("demo", password), admin], port=port)


def _judge(site: StandIn) -> int:
    """Counts on the server's own disk, not by what the program says."""
    stored = sum(len(session.files) for session in site.sessions("DEMO"))
    first, second = (json.loads((HOME / f"report-{run}.json").read_text())["totals"] for run in (1, 2))
    print(f"On the server's disk: {len(site.sessions('DEMO'))} sessions, {stored} instances.")
    good = stored == first["verified"] == second["already_there"] > 0 and second["bytes_sent"] == 0
    print(f"The second run sent {second['bytes_sent']} bytes. Reports: {HOME}/report-1.json, {HOME}/report-2.json")
    print(f"Look at the page in a browser: {HOME}/report-1.html")
    print(f"The program is {PROGRAM}. After `. .venv/bin/activate` its name is enough: xnat-ingest")
    if not good:
        print("That is not what the reports say: the demo failed.")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
