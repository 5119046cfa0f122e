"""A Docker of the tests' own: Debian's packages, unpacked into a temporary folder, and gone with it at the end.

What stays: the packages of INSTALLED, and the empty folders that Docker makes in /run and /opt.
It has no bridge and makes no firewall rules, and it leaves IP forwarding as it is: the machine's network stays as it
was, and a container has either the machine's own network or none.
"""

from __future__ import annotations

import os
import platform
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.debian import install
from tests.image import base
from tests.image.engine import Engine, EngineError, ended_well, undisturbed

# Debian 13's Docker needs glibc 2.34, so it runs on Debian 12 as well, whose own cannot do half of today's Dockerfiles.
SUITE = "trixie"
UNPACKED = ("docker.io", "docker-cli", "docker-buildx", "containerd")
INSTALLED = ("mmdebstrap", "runc", "tini")  # each has a program of its name
FETCHING = 180.0
READY = 60.0
STOPPING = 30.0
CGROUPS = Path("/sys/fs/cgroup")
APT = """\
Dir::Etc::sourcelist "{0}/{1}.sources"; Dir::Etc::sourceparts "{0}/parts";
Dir::State::lists "{0}/lists"; Dir::Cache "{0}/cache"; APT::Sandbox::User "root"; Acquire::Languages "none";
"""


@contextmanager
def private() -> Iterator[Engine]:
    """A running engine with a base image, all of it below one folder; nothing of it is left afterwards."""
    _possible()
    # Not in TMPDIR, which can be long: the path of a socket may have 108 bytes.
    work = Path(tempfile.mkdtemp(prefix="engine-", dir="/tmp"))
    try:
        with undisturbed():
            install(INSTALLED)
        with base.making(work) as tree:
            programs = unpack(work / "apt")
            with running(work, programs) as engine:
                base.bring_in(engine, tree, work)
                yield engine
    finally:
        with undisturbed():
            clear(work)


def _possible() -> None:
    system = platform.freedesktop_os_release().get("ID") if Path("/etc/os-release").exists() else ""
    if os.geteuid() or system != "debian":
        ways = "a Docker engine that has the base image or can pull it, or root on Debian to start an engine"
        raise EngineError(f"the tests of the image need {ways}")


def _must(command: Sequence[str], cwd: Path | None = None, **environ: str) -> str:
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=FETCHING,
        cwd=cwd,
        env=base.environment(**environ),
        start_new_session=True,
    )
    return ended_well(done).stdout


def unpack(apt: Path) -> Path:
    """Docker's programs in a folder; the machine's list of packages does not change."""
    for name in ("lists/partial", "cache/archives/partial", "parts", "root", "deb"):
        (apt / name).mkdir(parents=True)
    (apt / "apt.conf").write_text(APT.format(apt, SUITE))
    source = f"Types: deb\nURIs: {base.mirror()}\nSuites: {SUITE}\nComponents: main\nSigned-By: {base.KEYRING}\n"
    (apt / f"{SUITE}.sources").write_text(source)
    config = str(apt / "apt.conf")
    _must(["apt-get", "-qq", "-o", "Acquire::Check-Valid-Until=false", "update"], APT_CONFIG=config)
    _must(["apt-get", "-qq", "download", *UNPACKED], cwd=apt / "deb", APT_CONFIG=config)
    for package in (apt / "deb").iterdir():
        _must(["dpkg-deb", "--extract", str(package), str(apt / "root")])
        package.unlink()
    return apt / "root" / "usr"


@contextmanager
def running(work: Path, programs: Path) -> Iterator[Engine]:
    """A dockerd, ready; stopped at the end with its containers."""
    plugins = work / "config" / "cli-plugins"
    plugins.mkdir(parents=True)
    (plugins / "docker-buildx").symlink_to(programs / "libexec/docker/cli-plugins/docker-buildx")
    paths = f"{programs / 'sbin'}:{programs / 'bin'}:{base.environment()['PATH']}"
    environ = {"DOCKER_HOST": f"unix://{work}/docker.sock", "DOCKER_CONFIG": str(work / "config"), "PATH": paths}
    engine = Engine(str(programs / "bin" / "docker"), base.NAME, environ)
    process = _start(work, environ)
    try:
        _wait_until_ready(engine, process, work)
        yield engine
    finally:
        with undisturbed():
            _stop(engine, process)


def _start(work: Path, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    # With --bridge=none alone dockerd would still switch IP forwarding on. setpriv: not even a killed pytest leaves it.
    command = ["setpriv", "--pdeathsig", "TERM", "dockerd", "--host", environ["DOCKER_HOST"]]
    command += ["--data-root", str(work / "root"), "--exec-root", str(work / "exec"), "--pidfile", str(work / "pid")]
    command += ["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"]
    command += ["--init-path", shutil.which("tini") or "tini", "--config-file", str(work / "daemon.json")]
    command += ["--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", f"/{work.name}"]
    (work / "daemon.json").write_text("{}")  # and not the machine's
    with (work / "dockerd.log").open("wb") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **environ},
            start_new_session=True,
        )


def _wait_until_ready(engine: Engine, process: subprocess.Popen[bytes], work: Path) -> None:
    end = time.monotonic() + READY
    while engine("version").returncode:
        if process.poll() is not None or time.monotonic() > end:
            raise EngineError(f"dockerd does not get ready:\n{(work / 'dockerd.log').read_text()[-3000:]}")
        time.sleep(0.1)


def _stop(engine: Engine, process: subprocess.Popen[bytes]) -> None:
    """Containers first: dockerd waits ten seconds for each whose first process does not hear a TERM."""
    try:
        containers = engine("ps", "--all", "--quiet", timeout=STOPPING).stdout.split()
        if containers:
            engine("rm", "--force", "--volumes", *containers, timeout=STOPPING)
    finally:
        process.terminate()
        try:
            process.wait(STOPPING)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def clear(work: Path) -> None:
    """What a stopped dockerd leaves: processes of a build that was cut short, mounts, cgroups, the folder."""
    groups = [*CGROUPS.glob(f"*/{work.name}"), *CGROUPS.glob(work.name)]
    end = time.monotonic() + STOPPING
    while left := _processes(groups):
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > end:
            raise EngineError(f"processes of {work} do not end: {sorted(left)}")
        time.sleep(0.05)
    for line in reversed(Path("/proc/mounts").read_text().splitlines()):
        if line.split()[1].startswith(f"{work}/"):
            _must(["umount", "--lazy", line.split()[1]])
    shutil.rmtree(work)
    for group in groups:
        for folder in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
            folder.rmdir()
        group.rmdir()


def _processes(groups: Sequence[Path]) -> set[int]:
    listings = [listing for group in groups for listing in group.rglob("cgroup.procs")]
    return {int(pid) for listing in listings for pid in listing.read_text().split()}
