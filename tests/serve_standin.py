"""`make serve-standin`: the demo's server and its tree, left running to play with until Ctrl-C.

It listens on this machine only, and begins anew each time: what was uploaded is gone with it.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
from types import FrameType

from tests import demo
from tests.dicom_trees import Series, make_session
from tests.standin import StandIn


def main() -> int:
    demo.only_one()
    files = demo.lay_out()
    shutil.rmtree(demo.SERVER, ignore_errors=True)
    password = secrets.token_urlsafe(12)
    ended = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        ended.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    with demo.make_site(password, port=int(os.environ.get("PORT") or 0)) as site:
        _leave_a_conflict(site, password)
        print(_words(site, password, files), flush=True)
        while not ended.wait(3600):
            pass
    print("the stand-in has ended")
    return 0


def _leave_a_conflict(site: StandIn, password: str) -> None:
    """Two studies under one label: the first is archived, and the archive refuses the second as a real XNAT does."""
    environ = {**os.environ, "XNAT_HOST": site.url, "XNAT_USER": "demo", "XNAT_PASS": password}

    def run(*words: str) -> None:
        subprocess.run([sys.executable, "-m", "xnat_ingest", *words], env=environ, capture_output=True)

    def upload(name: str, *words: str) -> None:
        folder = demo.HOME / name
        make_session(folder, [Series("T1-MPRAGE_0010", 2, tags={"PatientID": "009"})], name)
        run("upload", str(folder), "-P", "DEMO", "-S", "009", "-E", "009_pre", "--no-verify", *words)

    upload("repeated", "--destination", "prearchive")
    (row,) = site.rows("DEMO")
    row.label = "hidden"  # the program itself would not send a second study under the label
    upload("earlier")
    row.label = "009_pre"
    run("prearchive", "archive", "-P", "DEMO", "009_pre")


def _words(site: StandIn, password: str, files: int) -> str:
    return f"""A stand-in for an XNAT server runs on this machine until you press Ctrl-C.

  address   {site.url}
  user      demo   (admin, with the same password, may also register the command)
  password  {password}
  project   DEMO
  files     {files} below {demo.TREE}

In another terminal, in this folder:

  export XNAT_HOST={site.url} XNAT_USER=demo XNAT_PASS={password}
  {demo.PROGRAM} ping -P DEMO
  {demo.PROGRAM} upload {demo.TREE} -P DEMO --html report.html

The prearchive has a session in CONFLICT. docs/quick-start.md says what to do about it:

  {demo.PROGRAM} prearchive list -P DEMO --status CONFLICT
"""


if __name__ == "__main__":
    sys.exit(main())
