"""`make demo`: the main job on real DICOM files, against a stand-in server on this machine.

Lays out a tree, uploads it with an exclusion file, then runs the same command again, which sends nothing.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

from tests.dicom_trees import make_demo
from tests.standin import Project, StandIn, User

HOME = Path("demo")


def main() -> int:
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir()
    files = make_demo(HOME / "dicom")
    config = HOME / "Exclusions.json"
    config.write_text(json.dumps({"Exclude": ["Localizers", "AAHEAD", "MoCoSeries", "JJWANGS"]}) + "\n")
    print(f"{files} files laid out below {HOME / 'dicom'}; exclusions in {config}")
    password = secrets.token_urlsafe(12)
    site = StandIn(
        HOME / "xnat", projects=[Project("DEMO", code=4, access={"demo": "edit"})], users=[User("demo", password)]
    )
    with site:
        print(f"a stand-in for an XNAT server listens at {site.url}\n")
        environ = {**os.environ, "XNAT_HOST": site.url, "XNAT_USER": "demo", "XNAT_PASS": password}
        for run, title in enumerate(("The upload", "The same command again: nothing is sent twice"), 1):
            words = ["upload", str(HOME / "dicom"), "-P", "DEMO", "--config", str(config)]
            words += ["--report", str(HOME / f"report-{run}.json"), "--html", str(HOME / f"report-{run}.html")]
            print(f"== {title}\n$ xnat-ingest {' '.join(words)}", flush=True)
            code = subprocess.run([sys.executable, "-m", "xnat_ingest", *words], env=environ).returncode
            print(flush=True)
            if code:
                return code
        return _judge(site)


def _judge(site: StandIn) -> int:
    """Counts on the server's own disk, not by what the program says."""
    stored = sum(len(session.files) for session in site.sessions("DEMO"))
    first, second = (json.loads((HOME / f"report-{run}.json").read_text())["totals"] for run in (1, 2))
    print(f"On the server's disk: {len(site.sessions('DEMO'))} sessions, {stored} instances.")
    good = stored == first["verified"] == second["already_there"] > 0 and second["bytes_sent"] == 0
    print(f"The second run sent {second['bytes_sent']} bytes. Reports: {HOME}/report-1.json, {HOME}/report-2.json")
    if not good:
        print("That is not what the reports say: the demo failed.")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
