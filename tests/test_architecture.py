"""Imports run one way, and each library has one home: the picture of the rooms is in docs/design.md, section 3."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "xnat_ingest"
# In the data's order. A room may import the rooms of the sets before its own, and nothing else of ours.
ROOMS: tuple[set[str], ...] = (
    {"core"},
    {"settings", "inputs"},
    {"deidentify"},
    {"planning", "xnat", "report"},
    {"transports"},
    {"delivery"},
    {"commands"},
    {"cli", "api"},
    {"__init__", "__main__"},
)
HOMES = {
    "urllib3": {"xnat"},
    "jsonschema": {"core"},
    "pydicom": {"inputs"},
    "pynetdicom": {"transports"},
    "argparse": {"cli"},
    "tarfile": {"transports", "inputs"},
}


SETTINGS = "xnat_ingest.settings.options.Settings"


@cache
def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    """The room that a file is in, or its own name when it lies beside the rooms."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@cache
def dotted(path: Path) -> str:
    words = ("xnat_ingest", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(words).removesuffix(".__init__")


@cache
def imports(path: Path) -> set[str]:
    """Absolute names of all modules imported anywhere in a file, late ones too, but for type checking."""
    tree = ast.parse(path.read_text("utf-8"))
    hidden = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return found


@cache
def own(path: Path) -> set[Path]:
    """The files of ours that a file imports; a name taken from a package's __init__ counts as that __init__."""
    files = {dotted(other): other for other in modules()}
    names = {name for name in imports(path) if name in files}
    deeper = {name.rpartition(".")[0] for name in imports(path) if name in files}
    return {files[name] for name in names - deeper} | {
        files[name] for name in names & deeper if _takes_from_init(path, name, files)
    }


def _takes_from_init(path: Path, package: str, files: dict[str, Path]) -> bool:
    wanted = {name for name in imports(path) if name.rpartition(".")[0] == package}
    return any(name not in files for name in wanted)


def rank(name: str) -> int:
    return next(index for index, group in enumerate(ROOMS) if name in group)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path: Path) -> None:
    """A file imports its own room and the rooms before it."""
    me = room(path)
    for other in {room(file) for file in own(path)} - {me}:
        assert rank(other) < rank(me), f"{me} must not import {other}"


def test_no_circles() -> None:
    """No file imports itself, over however many others."""
    graph = {dotted(path): {dotted(other) for other in own(path)} for path in modules()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_the_package_itself_imports_none_of_its_modules() -> None:
    """It is imported before __main__ has set its signal handlers, and Ctrl-C is a traceback until then."""
    code = "import sys, xnat_ingest; print([name for name in sys.modules if name.startswith('xnat_ingest.')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_every_room_is_listed() -> None:
    assert {room(path) for path in modules()} == set[str]().union(*ROOMS)


@pytest.mark.parametrize("library", HOMES)
def test_each_library_has_one_home(library: str) -> None:
    users = {room(path) for path in modules() if any(n.split(".")[0] == library for n in imports(path))}
    assert users == HOMES[library]


def test_the_whole_of_the_settings_is_for_those_who_hand_them_on() -> None:
    """Others take the group that they need, so their signatures say which options can matter to them."""
    users = {str(path.relative_to(PACKAGE)) for path in modules() if SETTINGS in imports(path)}
    assert {user for user in users if user.partition("/")[0] not in ("cli", "api.py", "commands")} == {
        "delivery/result.py",
        "delivery/run.py",
        "settings/layers.py",
    }


def test_it_starts_no_program_and_loads_no_code() -> None:
    """So no name of a file can become a command, and no file can become code, whatever shell the image has."""
    starters = re.compile(r"\bos\.(system|popen|exec|spawn|posix_spawn|fork)|(?<![.\w])(eval|exec)\(")
    callers = set()
    for path in modules():
        assert not imports(path) & {"subprocess", "multiprocessing", "pty", "pickle", "marshal", "shelve"}
        assert not starters.search(path.read_text("utf-8")), path
        if "ctypes" in imports(path):
            callers.add((path.name, *re.findall(r"ctypes\.\w.*", path.read_text("utf-8"))))
    assert callers == {("addresses.py", "ctypes.CDLL(None).mallopt(_ARENA_MAX, 1)")}  # a function of its own C library


# Text of the package itself, and a function whose caller catches what reading raises.
TRUSTED_JSON = {"deidentify/profile.py", "xnat/documents.py"}


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_endless_nesting_in_json_is_caught(path: Path) -> None:
    """`[` some thousand times is a RecursionError, which is no ValueError."""
    guards = [
        node
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if (isinstance(node, ast.Try) and any("RecursionError" in ast.unparse(h.type or h) for h in node.handlers))
        or (isinstance(node, ast.With) and "RecursionError" in ast.unparse(node.items[0].context_expr))
    ]
    guarded = {call for guard in guards for line in guard.body for call in _json_calls(line)}
    if str(path.relative_to(PACKAGE)) not in TRUSTED_JSON:
        assert _json_calls(ast.parse(path.read_text("utf-8"))) == guarded


def _json_calls(tree: ast.AST) -> set[int]:
    """The lines that read JSON, but for files of the package."""
    return {
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "json.loads"
        and "resources." not in ast.unparse(node)
    }


@pytest.mark.wide
def test_only_reporters_print() -> None:
    """The core emits events; cli speaks for what ends before there is a reporter."""
    speakers = {
        room(path)
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print"
    }
    assert speakers == {"report", "cli"}


@pytest.mark.wide
def test_help_loads_nothing_heavy() -> None:
    code = "import sys; from xnat_ingest.cli import make_parser; make_parser().format_help(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"urllib3", "pydicom", "pynetdicom", "jsonschema", "ssl"} & set(loaded)


def test_product_needs_no_tests() -> None:
    for path in modules():
        assert not any(name.split(".")[0] == "tests" for name in imports(path))


@pytest.mark.wide
def test_stand_in_knows_nothing_of_the_product() -> None:
    for path in (PACKAGE.parent / "tests" / "standin").rglob("*.py"):
        assert not any(name.split(".")[0] == "xnat_ingest" for name in imports(path)), path
