"""A Slurm cluster of one node in a network of its own, and an array job of ours on it: ``drive_slurm.py FOLDER``.

Must be started in a new network and process namespace (unshare), as root: Slurm listens on every address, and what it
started must end with it. Prints JSON as its last line.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.conftest import PASSWORD
from tests.dicom_trees import Series, make_session
from tests.standin import Project, StandIn, User

SUBJECTS = 100
VISITS = ("pre", "post")
TASKS = 8
LIMIT = 150.0
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={work}/munge.socket
SlurmctldPidFile={work}/slurmctld.pid
SlurmdPidFile={work}/slurmd.pid
SlurmdSpoolDir={work}/spool
StateSaveLocation={work}/state
SlurmctldLogFile={work}/slurmctld.log
SlurmdLogFile={work}/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SchedulerType=sched/builtin
SelectType=select/cons_tres
KillWait=20
MpiDefault=none
SwitchType=switch/none
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=4000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:2
"""


def run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise RuntimeError(f"{words}: {done.stderr}")
    return done.stdout


def make_network() -> None:
    """Loopback, and one address more: Slurm resolves none where there is only loopback."""
    for line in (
        "link set lo up",
        "link add v0 type veth peer name v1",
        "addr add 10.9.9.9/24 dev v0",
        "link set v0 up",
        "link set v1 up",
    ):
        run("ip", *line.split())


def start_slurm(work: Path) -> list[subprocess.Popen[bytes]]:
    for name in ("spool", "state"):
        (work / name).mkdir(parents=True)
    key = work / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    conf = work / "slurm.conf"
    conf.write_text(CONF.format(host=socket.gethostname().split(".")[0], work=work))
    os.environ["SLURM_CONF"] = str(conf)
    files = (
        "key-file=munge.key",
        "socket=munge.socket",
        "pid-file=munged.pid",
        "log-file=munged.log",
        "seed-file=seed",
    )
    munge = [f"--{option}={work / name}" for option, _, name in (one.partition("=") for one in files)]
    log = (work / "daemons.log").open("wb")
    started = []
    for words in (["munged", "--foreground", "--force", *munge], ["slurmctld", "-D"], ["slurmd", "-D"]):
        started.append(subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL))
        time.sleep(1)
    wait_for(lambda: "idle" in run("sinfo", "-h", "-o", "%T"), 30)
    return started


def wait_for(ready: object, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if callable(ready) and ready():
                return
        except RuntimeError:
            pass
        time.sleep(0.3)
    raise TimeoutError


def make_tree(root: Path) -> None:
    for number in range(SUBJECTS):
        for visit in VISITS:
            make_session(root / f"S{number:03d}" / visit, (Series("T1_1", 2),), f"{number}{visit}")


def states() -> list[str]:
    return run("squeue", "-h", "-r", "-o", "%K %T").splitlines()


def main() -> None:
    folder = Path(sys.argv[1])
    make_network()
    make_tree(folder / "study")
    site = StandIn(folder / "xnat", [Project("DEMO", code=4, access={"up": "edit"})], [User("up", PASSWORD)])
    with site:
        login = {"XNAT_HOST": site.url, "XNAT_USER": "up", "HOME": str(folder), "PATH": os.environ["PATH"]}
        (folder / ".xnat-password").write_text(PASSWORD)
        os.environ.update(login)
        os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        daemons = start_slurm(folder / "slurm")
        os.chdir(folder)
        script = Path(__file__).parent.parent.parent / "examples" / "slurm.sbatch"
        words = [f"--array=1-{TASKS}", "--output=%a.log", str(script), str(folder / "study"), "DEMO"]
        run("sbatch", "--export=ALL", *words)
        wait_for(lambda: any(line.endswith("RUNNING") for line in states()), 60)
        time.sleep(1)
        killed = next(line.split()[0] for line in states() if line.endswith("RUNNING"))
        job = run("squeue", "-h", "-r", "-o", "%K %A").split()
        number = dict(zip(job[::2], job[1::2], strict=True))[killed]
        run("scontrol", "requeue", number)
        wait_for(lambda: f"{killed} PENDING" in states(), 60)
        run("scontrol", "update", f"JobId={number}", "StartTime=now")  # Slurm would wait two minutes
        wait_for(lambda: not states(), LIMIT)
        for one in reversed(daemons):
            one.terminate()
            one.wait(20)
        environ = {**os.environ, "XNAT_PASS": PASSWORD}
        ours = [sys.executable, "-m", "xnat_ingest"]
        reports = [f"report-{number}.json" for number in range(1, TASKS + 1)]
        joining = [*ours, "report", "merge", *reports, "--report", "all.json"]
        merged = subprocess.run(joining, capture_output=True, text=True)
        whole = [*ours, "verify", "study", "-P", "DEMO", "--report", "whole.json"]
        verified = subprocess.run(whole, capture_output=True, text=True, env=environ)
        stored = sum(len(one.files) for one in site.sessions("DEMO"))
    print(
        json.dumps(
            {
                "requeued": killed,
                "merge": [merged.returncode, merged.stdout[-500:] + merged.stderr[-500:]],
                "verify": [verified.returncode, verified.stdout[-200:]],
                "stored": stored,
                "sessions": len(site.sessions("DEMO")),
            }
        )
    )


if __name__ == "__main__":
    main()
