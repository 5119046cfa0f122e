"""Imports run one way, and each library has one home: docs/design.md, section 4."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "xnat_ingest"
# Left to right, as data goes. Inside a group a module may import only what ALLOWED says.
GROUPS = (
    {"errors", "naming", "model", "tables", "replies", "fileformat", "patience", "pace", "stop", "outfile"},
    {
        "options",
        "foreign",
        "schemas",
        "config",
        "settings",
        "sources",
        "scan",
        "presets",
        "rules",
        "labels",
        "conflicts",
        "grouping",
        "planfile",
        "media",
        "pack",
        "report",
        "totals",
        "niftifile",
    },
    {"rest"},
    {
        "transports",
        "prearchive",
        "serverfilter",
        "serverrules",
        "proof",
        "existing",
        "resources",
    },
    {
        "prepare",
        "planning",
        "equip",
        "blind",
        "site",
        "sending",
        "direct",
        "closing",
        "ourrow",
        "deliver",
        "survey",
        "run",
    },
    {"selection", "aftermath", "staging", "nifti"},
    {"command"},
    {"cli", "api"},
    {"__main__", "__init__"},
)
ALLOWED = {
    "model": {"naming"},
    "patience": {"errors"},
    "stop": {"errors"},
    "outfile": {"errors", "naming"},
    "config": {"options", "schemas"},
    "settings": {"config", "options"},
    "scan": {"sources"},
    "rules": {"options", "presets"},
    "grouping": {"rules", "labels", "conflicts"},
    "planfile": {"grouping", "conflicts", "labels", "schemas"},
    "media": {"scan", "sources"},
    "pack": {"sources"},
    "niftifile": {"sources"},
    "report": {"options"},
    "serverrules": {"serverfilter"},
    "proof": {"prearchive"},
    "existing": {"prearchive", "proof"},
    "closing": {"site"},
    "direct": {"site", "sending"},
    "blind": {"sending"},
    "equip": {"site"},
    "aftermath": {"selection"},
    "staging": {"selection", "aftermath"},
    "ourrow": {"site", "sending", "direct", "closing"},
    "deliver": {"site", "sending", "direct", "closing", "ourrow"},
    "survey": {"site", "deliver"},
    "planning": {"prepare"},
    "run": {"site", "blind", "deliver", "equip", "survey", "planning"},
}
HOMES = {
    "urllib3": {"rest"},
    "jsonschema": {"schemas"},
    "pydicom": {"scan"},
    "pynetdicom": {"transports"},
    "argparse": {"cli"},
    "tarfile": {"pack", "resources", "sources"},
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def part(path: Path) -> str:
    """The word by which a file is known: its module, or the package below xnat_ingest that it is in."""
    words = path.relative_to(PACKAGE).with_suffix("").parts
    return words[0]


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


def own(names: set[str]) -> set[str]:
    known = {part(path) for path in modules()}
    words = {name.split(".")[1] for name in names if name.startswith("xnat_ingest.")}
    return words & known


def rank(word: str) -> int:
    return next(index for index, group in enumerate(GROUPS) if word in group)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_left(path: Path) -> None:
    """A module imports from groups to its left, and inside its group only what is listed."""
    me = part(path)
    for other in own(imports(path)) - {me}:
        same = rank(other) == rank(me)
        assert rank(other) < rank(me) or (same and other in ALLOWED.get(me, set())), f"{me} must not import {other}"


@pytest.mark.parametrize("library", HOMES)
def test_each_library_has_one_home(library: str) -> None:
    users = {part(path) for path in modules() if any(n.split(".")[0] == library for n in imports(path))}
    assert users == HOMES[library]


def test_only_faces_print() -> None:
    """The core emits events; cli speaks for what ends before there is a face."""
    speakers = {
        part(path)
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print"
    }
    assert speakers == {"report", "cli"}


def test_help_loads_nothing_heavy() -> None:
    code = "import sys; from xnat_ingest.cli import make_parser; make_parser().format_help(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"urllib3", "pydicom", "pynetdicom", "jsonschema", "ssl"} & set(loaded)


def test_product_needs_no_tests() -> None:
    for path in modules():
        assert not any(name.split(".")[0] == "tests" for name in imports(path))


def test_stand_in_knows_nothing_of_the_product() -> None:
    for path in (PACKAGE.parent / "tests" / "standin").rglob("*.py"):
        assert not any(name.split(".")[0] == "xnat_ingest" for name in imports(path)), path
