"""What is measured side by side: this program and others that send DICOM to XNAT, each as its manual says."""

from __future__ import annotations

import shlex
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.environments import make_environment

ROOT = Path(__file__).parent.parent
ENVIRONMENT = ROOT / ".venv-bench"
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
PASSWORD = "pass word"


@dataclass(frozen=True)
class Work:
    """What is to be sent, and where to. sessions: subject -> its folder or zip; tar: all of it as one tar."""

    root: Path
    sessions: dict[str, Path]
    tar: Path
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def zipped(self) -> bool:
        return any(path.suffix == ".zip" for path in self.sessions.values())


def ours(work: Work) -> list[str]:
    return [sys.executable, "-m", "xnat_ingest", "upload", str(work.root), "-P", "DEMO", "--report", "report.json"]


def _each(work: Work, command: Callable[[str, Path], str]) -> list[str]:
    """One process after the other, one a session: these tools take one session a run."""
    lines = [command(subject, path) for subject, path in work.sessions.items()]
    return ["sh", "-c", "set -e\n" + "\n".join(lines)]


def xnatctl(mode: str) -> Callable[[Work], list[str]]:
    program = shlex.quote(str(ENVIRONMENT / "bin" / "xnatctl"))

    def command(work: Work) -> list[str]:
        return _each(
            work,
            lambda subject, path: (
                f"{program} -q session upload {shlex.quote(str(path))} -P DEMO -S {subject} -E {subject}_MR1 "
                f"--workers 4 --mode {mode}"
            ),
        )

    return command


def xnatpy(work: Work) -> list[str]:
    program, script = str(ENVIRONMENT / "bin" / "python"), str(Path(__file__).with_name("drive_xnatpy.py"))
    return [program, script, *(f"{subject}={path}" for subject, path in work.sessions.items())]


def zip_and_curl(work: Work) -> list[str]:
    """The original method: a zip of each session, then a request with it."""

    def line(subject: str, path: Path) -> str:
        target = f"{work.url}/data/services/import?inbody=true&import-handler=DICOM-zip&dest=/prearchive/projects/DEMO"
        target += f"&project=DEMO&subject={subject}&session={subject}_MR1"
        packing = "" if path.suffix == ".zip" else f"(cd {shlex.quote(str(path))} && zip -q -r $TMPDIR/s.zip .)\n"
        archive = shlex.quote(str(path)) if path.suffix == ".zip" else "$TMPDIR/s.zip"
        send = f"curl -sSf -o /dev/null -X POST -H 'Content-Type: application/zip' -T {archive} {shlex.quote(target)}"
        return f"{packing}{send}\nrm -f $TMPDIR/s.zip"

    return _each(work, line)


def floor(work: Work) -> list[str]:
    """What the machine can do: one request with a tar that exists already."""
    target = f"{work.url}/data/services/import?inbody=true&import-handler=DICOM-zip&project=DEMO&subject=X&session=X"
    head = ["curl", "-sSf", "-o", "/dev/null", "-X", "POST", "-H", "Content-Type: application/x-tar"]
    return [*head, "-T", str(work.tar), target]


OURS, XNATPY, ZIP_AND_CURL, FLOOR = "xnat-ingest", "xnatpy", "zip + curl", "curl -T of a tar"
TAR, ZIP, GRADUAL = "xnatctl tar", "xnatctl zip", "xnatctl gradual"
CONTENDERS: dict[str, Callable[[Work], list[str]]] = {
    OURS: ours,
    TAR: xnatctl("tar"),
    ZIP: xnatctl("zip"),
    GRADUAL: xnatctl("gradual"),
    XNATPY: xnatpy,
    ZIP_AND_CURL: zip_and_curl,
    FLOOR: floor,
}


def environ(work: Work) -> dict[str, str]:
    return {
        "XNAT_HOST": work.url,
        "XNAT_URL": work.url,
        "XNAT_USER": "up",
        "XNAT_PASS": PASSWORD,
        "XNAT_NO_UPDATE_CHECK": "1",
        "NO_COLOR": "1",
        "PYTHONPATH": str(ROOT),
    }


def install() -> None:
    """The other tools, in an environment of their own; made once, and again when what they need has changed."""
    stamp, wanted = ENVIRONMENT / ".ready", f"{sys.version}\n{REQUIREMENTS.read_text()}"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    make_environment(ENVIRONMENT, "--require-hashes", "--no-deps", "-r", str(REQUIREMENTS))
    stamp.write_text(wanted)


def pack(work: Work) -> None:
    """Makes the tar that the floor sends."""
    if not work.tar.exists():
        with tarfile.open(work.tar, "w") as archive:
            archive.add(work.root, arcname=".")
