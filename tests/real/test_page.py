"""The report's page in a real browser: it shows, filters, asks for nothing, and axe-core finds no serious fault."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Ingest
from tests.debian import program
from tests.dicom_trees import Series, make_session
from tests.real.clients import HOME, Client
from tests.unit.test_page import report, session
from xnat_ingest.report.html import write_html

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def axe() -> str:
    """axe-core from the npm registry."""
    program("chromium")
    program("chromedriver")
    npm = program("npm")
    folder = HOME / "axe"
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "node_modules" / "axe-core" / "axe.min.js"
    if not script.exists():
        subprocess.run([npm, "install", "--silent", "--prefix", str(folder), "axe-core@4"], check=True, timeout=300)
    return str(script)


def test_the_page_in_a_browser(ingest: Ingest, client: Callable[[str], Client], axe: str, tmp_path: Path) -> None:
    root = tmp_path / "study"
    for subject in ("007", "008"):
        make_session(root / subject / "pre", (Series("T1-MPRAGE_0001", 3), Series("ep2d_0002", 4)), subject)
    make_session(root / "009" / "pre", (Series("T1-MPRAGE_0001", 3),), "009")
    make_session(root / "009" / "pre" / "again", (Series("T2_0002", 3),), "009b")
    path = tmp_path / "report.html"
    assert ingest("upload", root, "--html", str(path)).code == 3
    seen = client("selenium").drive("drive_page.py", "look", page=path.as_uri(), axe=axe, pictures=str(tmp_path))
    assert seen["headline"] == "14 of 20 instances are on the server; 1 of 3 sessions need attention"
    assert seen["all"] == ["009 / 009_pre", "007 / 007_pre", "008 / 008_pre"]
    assert seen["searched"] == ["008 / 008_pre"]
    assert seen["care"] == ["009 / 009_pre"]
    assert "009/pre contains 2 studies" in seen["inside"]
    assert "009/pre/again/T2_0002/IM000003 held back" in seen["inside"]
    assert "This session holds 2 studies:" in seen["inside"]
    assert "T2 MR 3 0 009/pre/again/T2_0002" in seen["inside"]
    assert seen["pictures"]
    assert all(alt.startswith("middle slice of series") and width > 30 for alt, width in seen["pictures"])
    assert seen["log"] == []
    assert seen["requests"] == [path.as_uri()]
    assert seen["faults"] == []
    assert seen["wide"] == []


def test_ten_thousand_sessions(client: Callable[[str], Client], axe: str, tmp_path: Path) -> None:
    """Usable: shown and filtered. How long it takes is printed, not asserted."""
    path = tmp_path / "many.html"
    write_html(str(path), report(*(session(f"s{n}") for n in range(10_000))))
    seen = client("selenium").drive("drive_page.py", "many", page=path.as_uri())
    print(f"10,000 sessions: {path.stat().st_size / 1e6:.1f} MB, {seen['load']:.1f} s to load, {seen['filter']:.2f} s")
    assert seen["shown"] == "1 of 10000 sessions"
    assert seen["found"] == ["007 / s9999"]
    assert (seen["first"], seen["more"], seen["printed"]) == (200, 400, 10_000)
    assert seen["log"] == []
