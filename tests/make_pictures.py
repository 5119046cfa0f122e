"""`make pictures`: every picture of the documentation, taken by headless Chromium.

The report's pages are those of real runs. The form is drawn from command.json, as the model of XNAT's container service
finds its fields.
"""

from __future__ import annotations

import json
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


# Where each of the command's wrappers is launched, on the small site of the model's tests.
LAUNCHED_FROM = {
    "xnat-ingest-project": "P",
    "xnat-ingest-subject": "X_S00001",
    "xnat-ingest-session": "X_E00001",
    "xnat-ingest-resource": "/archive/projects/P/resources/STUDY-2024",
}


def main() -> int:
    place = Path(tempfile.gettempdir()) / "pictures"  # the pages show their ROOT
    place.mkdir(exist_ok=True)
    os.chdir(place)
    if code := demo.main():
        return code
    PICTURES.mkdir(exist_ok=True)
    _take((demo.HOME / "report-1.html").resolve().as_uri(), "report", 1000, 1000)
    _take(_trouble().as_uri(), "trouble", 1000, 1250)
    with tempfile.TemporaryDirectory() as folder:
        _forms(Path(folder))
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


def _forms(folder: Path) -> None:
    """The dialog of each wrapper, on a project with two resources."""
    document = (ROOT / "command.json").read_text("utf-8")
    labels = {one["name"]: one["label"] for one in json.loads(document)["xnat"]}
    place = site(folder, "STUDY-2024", "STUDY-2025")
    for name, root in LAUNCHED_FROM.items():
        fields = form(document, name, place, root)
        page = folder / "form.html"
        page.write_text(drawn(labels[name], fields), "utf-8")
        shown = sum(field.shown for field in fields)
        _take(page.as_uri(), name.replace("xnat-ingest-", "form-"), 860, 170 + 89 * shown)


def _take(page: str, name: str, width: int, height: int) -> None:
    words = ["--headless=new", "--no-sandbox", "--hide-scrollbars", f"--window-size={width},{height}"]
    picture = PICTURES / f"{name}.png"
    subprocess.run(["chromium", *words, f"--screenshot={picture}", page], check=True, capture_output=True, timeout=120)
    print(picture)


if __name__ == "__main__":
    sys.exit(main())
