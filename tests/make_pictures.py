"""`make pictures`: every picture of the documentation, taken by headless Chromium.

The report's pages are those of real runs. The form is drawn from command.json, as the model of XNAT's container service
finds its fields.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests import demo
from tests.dicom_trees import Series, make_demo, make_session
from tests.service import form
from tests.service.drawing import drawn
from tests.service.samples import site

ROOT = Path(__file__).parent.parent
PICTURES = ROOT / "docs" / "pictures"


def main() -> int:
    if code := demo.main():
        return code
    PICTURES.mkdir(exist_ok=True)
    _take((demo.HOME / "report-1.html").resolve().as_uri(), "report", 1000, 1000)
    _take(_trouble().as_uri(), "trouble", 1000, 1250)
    with tempfile.TemporaryDirectory() as folder:
        _form(Path(folder))
    return 0


def _trouble() -> Path:
    """The page of a run in which a folder holds two studies, and a file is cut short."""
    tree, page = demo.HOME / "trouble", demo.HOME / "trouble.html"
    make_demo(tree)
    series = [Series("T1-MPRAGE_0010", 6, tags={"PatientID": "009"}), Series("t2_0011", 4, tags={"PatientID": "009"})]
    make_session(tree / "009" / "pre", series, "first")
    make_session(tree / "009" / "pre" / "again", series[1:], "second")
    cut = tree / "008" / "post" / "T1-MPRAGE_0010" / "IM000002"
    cut.write_bytes(cut.read_bytes()[:-3000])
    shutil.rmtree(demo.SERVER)  # of the demo's own server
    password = secrets.token_urlsafe(12)
    with demo.make_site(password) as server:
        environ = {**os.environ, "XNAT_HOST": server.url, "XNAT_USER": "demo", "XNAT_PASS": password}
        words = ["upload", str(tree), "-P", "DEMO", "--config", str(demo.CONFIG), "--html", str(page)]
        subprocess.run([sys.executable, "-m", "xnat_ingest", *words], env=environ)
    return page.resolve()


def _form(folder: Path) -> None:
    """The dialog of the command's first wrapper, on a project with two resources."""
    document = (ROOT / "command.json").read_text("utf-8")
    fields = form(document, "xnat-ingest-project", site(folder, "STUDY-2024", "STUDY-2025"), "P")
    page = folder / "form.html"
    page.write_text(drawn("Ingest DICOM from a resource of this project", fields), "utf-8")
    _take(page.as_uri(), "form", 860, 1230)


def _take(page: str, name: str, width: int, height: int) -> None:
    words = ["--headless=new", "--no-sandbox", "--hide-scrollbars", f"--window-size={width},{height}"]
    picture = PICTURES / f"{name}.png"
    subprocess.run(["chromium", *words, f"--screenshot={picture}", page], check=True, capture_output=True, timeout=120)
    print(picture)


if __name__ == "__main__":
    sys.exit(main())
