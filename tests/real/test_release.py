"""`make docs sbom man` with their tools: a strict site that asks for nothing from elsewhere, an SBOM, a man page."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.make_man import section
from xnat_ingest.cli import COMMANDS

pytestmark = pytest.mark.real

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def made() -> Path:
    """The folder that both targets write into."""
    words = ["make", "--no-print-directory", "docs", "sbom", "man"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout
    return ROOT


def test_the_site_asks_for_nothing_from_elsewhere(made: Path) -> None:
    pages = list((made / "build" / "site").rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        text = page.read_text("utf-8")
        assert not re.search(r"<(?:script|img|iframe|source)[^>]* src=[\"']?(?:https?:)?//", text), page
        assert not re.search(r"<link[^>]* href=[\"']?(?:https?:)?//", text), page
    for sheet in (made / "build" / "site").rglob("*.css"):
        assert not re.search(r"(?:url\(|@import )[\"']?(?:https?:)?//", sheet.read_text("utf-8")), sheet


def test_the_sbom_is_a_cyclonedx_document(made: Path) -> None:
    """`make sbom` has held it against the schema of CycloneDX."""
    found = json.loads((made / "dist" / "sbom.cdx.json").read_text())
    assert found["specVersion"] == "1.6"
    assert len(found["components"]) >= 8


def test_the_man_page_and_the_completion_know_every_command(made: Path) -> None:
    page = (made / "dist" / "man" / "xnat-ingest.1").read_text("utf-8")
    completion = (made / "dist" / "completion" / "xnat-ingest.bash").read_text("utf-8")
    assert page.endswith(section())
    for name in COMMANDS:
        assert name in page
        assert name in completion
    code = "source dist/completion/xnat-ingest.bash; COMP_WORDS=(xnat-ingest up); COMP_CWORD=1; "
    code += "_shtab_xnat_ingest; echo ${COMPREPLY[*]}"
    done = subprocess.run(["bash", "-c", code], cwd=made, capture_output=True, text=True)
    assert done.stdout.split() == ["upload"], done
