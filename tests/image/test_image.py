"""The image as it is built: what it starts, what lies in our layers, and what it says of itself."""

from __future__ import annotations

import json
import re
import shutil
import tarfile
from pathlib import Path

import pytest

from tests.image.containers import (
    Ended,
    build,
    inspect,
    labels,
    layers,
    own_bytes,
    own_members,
    own_steps,
    run,
)
from tests.image.engine import ROOT, Engine
from xnat_ingest import __version__

pytestmark = pytest.mark.real

HOME = "opt/xnat-ingest"
MOST = 40_000_000  # bytes of our own layers
LOCKED = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
# Seconds that the program takes in a container that has started, and Python alone; the median of five.
TIMING = """
import json, statistics, subprocess, sys, time
def seconds(*words):
    begun = time.perf_counter()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun
for words in (["xnat-ingest", "--help"], [sys.executable, "-c", "pass"]):
    print(statistics.median(seconds(*words) for _ in range(5)))
"""
PACKAGES = """
import json
from importlib import metadata
print(json.dumps({found.metadata["Name"]: found.version for found in metadata.distributions()}))
"""
IMPORTED = """
import json, jsonschema, pydicom, pynetdicom, urllib3
from importlib.metadata import version
print(json.dumps({name: version(name) for name in ("jsonschema", "pydicom", "pynetdicom", "urllib3")}))
"""


@pytest.fixture(scope="module")
def members(engine: Engine, image: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tarfile.TarInfo]:
    """All that our layers hold, by path."""
    saved = tmp_path_factory.mktemp("saved") / "image.tar"
    return own_members(engine, image, engine.base, saved)


def python(engine: Engine, image: str, *words: str) -> Ended:
    """The program's own Python, by the name that the image's PATH finds."""
    done = run(engine, image, *words, entrypoint="python", network="none")
    assert (done.code, done.err) == (0, "")
    return done


def test_help_and_version(engine: Engine, image: str) -> None:
    said = run(engine, image, "--help", network="none")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith("usage: xnat-ingest ")
    assert run(engine, image, network="none") == said
    assert run(engine, image, "--version", network="none") == Ended(0, f"xnat-ingest {__version__}\n", "")


def test_it_is_small_and_quick(engine: Engine, image: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Speed is told, and not judged: it is the machine's as much as ours."""
    size = own_bytes(engine, image, engine.base)
    ours, bare = map(float, python(engine, image, "-c", TIMING).out.split())
    with capsys.disabled():
        print(f"\nimage: {size} bytes in our layers; --help takes {ours:.3f} s, Python alone {bare:.3f} s")
    assert 1_000_000 < size < MOST


def test_nothing_lies_outside_of_one_folder(engine: Engine, image: str, members: dict[str, tarfile.TarInfo]) -> None:
    assert {path for path in members if not path.startswith(f"{HOME}/")} == {"opt", HOME}
    assert len([size for _, size in own_steps(engine, image, engine.base) if size]) == 1


def test_nobody_can_change_the_program(members: dict[str, tarfile.TarInfo]) -> None:
    """Whatever uid it runs as, what it runs is root's; nothing gives rights away."""
    for path, member in members.items():
        assert (member.uid, member.gid) == (0, 0), path
        assert not member.mode & 0o7000, f"{path} gives rights away"
        assert member.issym() or not member.mode & 0o022, f"{path} can be written"
        assert member.issym() or member.mode & 0o004, f"{path} cannot be read by all"


def test_no_byte_code(members: dict[str, tarfile.TarInfo]) -> None:
    assert [path for path in members if path.endswith(".pyc") or "__pycache__" in path] == []


def test_locked_packages_and_no_others(engine: Engine, image: str, members: dict[str, tarfile.TarInfo]) -> None:
    found = json.loads(python(engine, image, "-c", PACKAGES).out)
    names = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found.items()}
    assert names == LOCKED | {"xnat-ingest-container": __version__}
    assert not [path for path in members if re.search(r"/(pip|setuptools|wheel|pkg_resources)[\d.]*(/|$)", path)]


# What could make a program of what a stranger brings, by the names under which it is found.
COMPILERS = ("cc", "gcc", "g++", "c++", "clang", "tcc", "rustc", "go", "ld", "as", "make", "cmake")
SHELLS = ("sh", "bash", "dash", "busybox")


def test_no_compiler_and_no_pip(engine: Engine, image: str, members: dict[str, tarfile.TarInfo]) -> None:
    """Ours adds none and has no pip. A pip and a shell are what the base brings: SECURITY.md says so."""
    assert {Path(path).name for path in members} & {*COMPILERS, *SHELLS, "pip"} == set()
    found = run(engine, image, "-m", "pip", "--version", entrypoint="python", network="none")
    assert (found.code, "No module named pip" in found.err) == (1, True)
    look = f"for one in {' '.join(COMPILERS)}; do command -v $one; done; true"
    assert run(engine, image, "-c", look, entrypoint="sh", network="none") == Ended(0, "", "")


def test_packages_load_without_a_warning(engine: Engine, image: str) -> None:
    loaded = json.loads(python(engine, image, "-W", "error", "-c", IMPORTED).out)
    assert loaded == {name: LOCKED[name] for name in loaded}


def test_the_licence_is_in_it(engine: Engine, image: str, members: dict[str, tarfile.TarInfo]) -> None:
    (path,) = (path for path in members if re.search(r"/xnat_ingest_container-[^/]*/(.+/)?LICENSE$", path))
    assert run(engine, image, f"/{path}", entrypoint="cat").out == (ROOT / "LICENSE").read_text()
    assert labels(engine, image)["org.opencontainers.image.licenses"] == "Apache-2.0"


def test_how_it_is_started(engine: Engine, image: str) -> None:
    config = inspect(engine, image)["Config"]
    assert config["Entrypoint"] == ["/opt/xnat-ingest/bin/xnat-ingest"]
    assert config["Cmd"] == ["--help"]
    assert not config["User"]
    assert config["StopSignal"] == "SIGTERM"
    assert not config.get("Volumes")
    assert not config.get("ExposedPorts")
    assert not config.get("Healthcheck")
    above = set(config["Env"]) - set(inspect(engine, engine.base)["Config"]["Env"])
    assert {entry.partition("=")[0] for entry in above} == {"PATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"}


def test_it_tells_nothing_of_who_built_it(engine: Engine, image: str) -> None:
    said = json.dumps([own_steps(engine, image, engine.base), inspect(engine, image)["Config"]])
    for word in (str(ROOT), "/home/", "/root", "/tmp", "/src", "/wheel", "://", "--trusted-host", "XNAT_PASS"):
        assert word not in said, word
    found = run(engine, image, "-rlF", "--", str(ROOT), f"/{HOME}", entrypoint="grep", network="none")
    assert (found.code, found.out) == (1, "")


def test_the_command_is_in_its_label(engine: Engine, image: str) -> None:
    """What the container service reads when it pulls the image: a list, whose command names this image."""
    command = json.loads((ROOT / "command.json").read_text("utf-8"))
    assert json.loads(labels(engine, image)["org.nrg.commands"]) == [command | {"image": image}]
    said = labels(engine, image)
    assert said["org.opencontainers.image.version"] == command["version"] == __version__
    assert said["org.opencontainers.image.ref.name"] == image
    assert re.fullmatch("[0-9a-f]{40}", said["org.opencontainers.image.revision"])
    assert said["org.opencontainers.image.base.name"] == engine.base
    assert said["org.opencontainers.image.source"] == ""  # nobody said where the sources are


def test_the_unlabelled_one_is_the_same(engine: Engine, image: str) -> None:
    assert labels(engine, f"{image}-unlabelled") == (labels(engine, engine.base))
    assert layers(engine, f"{image}-unlabelled") == layers(engine, image)


def test_equal_sources_make_equal_layers(engine: Engine, tmp_path: Path) -> None:
    """Wherever and whenever they are built, and whatever was built before."""
    sources = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    made, taken = [], ROOT
    for name in ("one", "two"):
        context = tmp_path / name
        context.mkdir()
        for source in ("Dockerfile", ".dockerignore", *sources):
            if (taken / source).is_dir():
                shutil.copytree(taken / source, context / source, symlinks=True, copy_function=shutil.copyfile)
            else:
                shutil.copyfile(taken / source, context / source)
        taken = context  # the checkout may change meanwhile; times are new in each copy
        tag = engine.tag(f"equal-{name}")
        build(engine, context, tag, engine.base, args={"SOURCE_DATE_EPOCH": "1700000000"}, cache=False)
        made.append(layers(engine, tag))
    assert made[0] == made[1]
    alone = labels(engine, tag)  # of a plain `docker build`, where nobody said which image it is to be
    assert json.loads(alone["org.nrg.commands"]) == [json.loads((ROOT / "command.json").read_text("utf-8"))]
    assert alone["org.opencontainers.image.version"] == __version__
