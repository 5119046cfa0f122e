"""`make docs` and `make sbom` with their tools: a strict site whose pages ask for nothing from elsewhere."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.real

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def made() -> Path:
    """The folder that both targets write into."""
    words = ["make", "--no-print-directory", "docs", "sbom"]
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
