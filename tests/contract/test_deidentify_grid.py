"""--deidentify by every transport and from every form of input: nothing of the patient goes over the wire, is on the
server's disk, or in anything that the program writes; and the session is found again, verified, grown and replaced."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pydicom
import pytest
from pydicom.fileset import FileSet

from tests.conftest import Ended, Ingest
from tests.contract.table import files_of
from tests.contract.tap import Tap
from tests.contract.test_archives import to_tar, to_tgz, to_zip
from tests.contract.test_contract import by
from tests.contract.test_deidentify import SECRET, all_bytes, plain, says_nothing, write
from tests.contract.test_deidentify_output import faces, says_nobody, written
from tests.dicom_trees import uid
from tests.planted import PERSON, PLACES, patient
from tests.standin import StandIn
from tests.transport_flags import TRANSPORT_FLAGS

SAMPLES = ("MR_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm", "MR_small_RLE.dcm", "test-SR.dcm")
UP = ("--deidentify", "basic")
BY_HEADERS = (
    *("--layout", "headers", "--subject-label", "S1", "--session-label", "{StudyInstanceUID}"),
    "--allow-mixed-patients",
)
# A row has every so many of the places. Neighbouring rows have others.
STEP = 7
Made = tuple[str, ...]
FORMS: dict[str, Callable[[Path, int], Made]] = {}


def form(make: Callable[[Path, int], Made]) -> Callable[[Path, int], Made]:
    """Makes an input below a folder, with the places of a row. Returns ROOT and flags."""
    FORMS[make.__name__] = make
    return make


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XNAT_INGEST_DEID_KEY", SECRET)


def tree(root: Path, row: int, *, bare: bool = False, tail: bool = True) -> Path:
    """One session of planted images, one of images in all encodings. All files name the patient."""
    for number, name in enumerate(list(PLACES)[row % STEP :: STEP], 1):
        dataset = patient(PERSON, number=number)
        PLACES[name](dataset, PERSON)
        dataset.file_meta.SourceApplicationEntityTitle = PERSON.accession
        dataset.preamble = PERSON.name.encode().ljust(128)
        path = write(root / "007" / "pre" / "MR_1", dataset, number, bare=bare and number % 2 == 0)
        if tail and not bare:
            path.write_bytes(path.read_bytes() + PERSON.name.encode())  # behind the last element
    for number, sample in enumerate(SAMPLES, 1):
        dataset = patient(PERSON, sample, number)
        dataset.StudyInstanceUID, dataset.SeriesNumber = uid("second study"), number
        write(root / "007" / "post" / f"S_{number}", dataset, number)
    return root


@form
def folder(base: Path, row: int) -> Made:
    return (str(tree(base / "tree", row)),)


@form
def without_meta(base: Path, row: int) -> Made:
    return (str(tree(base / "tree", row, bare=True)),)


def packed(pack: Callable[[Path, Path], None], suffix: str, *, session: bool = False) -> Callable[[Path, int], Made]:
    def make(base: Path, row: int) -> Made:
        root = tree(base / "tree", row)
        whole = root / "007" / "pre" if session else root
        target = whole.with_suffix(suffix)
        pack(whole, target)
        shutil.rmtree(whole)
        return (str(root if session else target),)

    return make


for _pack, _suffix in ((to_zip, ".zip"), (to_tar, ".tar"), (to_tgz, ".tar.gz")):
    FORMS[f"{_suffix} as ROOT"] = packed(_pack, _suffix)
    FORMS[f"{_suffix} as session"] = packed(_pack, _suffix, session=True)


@form
def medium(base: Path, row: int) -> Made:
    """Its DICOMDIR names the patient, too."""
    files = FileSet()
    for path in sorted(tree(base / "tree", row, tail=False).rglob("IM*")):
        dataset = pydicom.dcmread(path)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
        for keyword, value in {"StudyDate": "20200101", "StudyTime": "101112", "StudyID": "7"}.items():
            setattr(dataset, keyword, value)
        files.add(dataset)
    files.write(base / "medium")
    files._stage["t"].cleanup()  # otherwise collected in the middle of another test, with a warning
    return (str(base / "medium"), *BY_HEADERS)


@form
def plan_file(base: Path, row: int) -> Made:
    return (str(tree(base / "tree", row)),)


def tapped(flags: tuple[str, ...], tap: Tap) -> tuple[str, ...]:
    """The flags of a transport by way of a tap."""
    return (*flags[:-1], str(tap.port)) if "--dicom-port" in flags else flags


GRID = [(name, transport) for name in FORMS for transport in TRANSPORT_FLAGS]


@pytest.mark.wide
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "transport"), GRID)
def test_nothing_planted_arrives(
    ingest: Ingest, site: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, transport: str
) -> None:
    (base := tmp_path / "input").mkdir()
    what, *more = FORMS[name](base, GRID.index((name, transport)))
    settled = (*more, *UP)
    if name == "plan_file":
        plan = tmp_path / "plan.json"
        assert ingest("plan", what, *settled, "--json", str(plan)).code in (0, 3)
        says_nothing(plan.read_bytes())
        what, settled = f"--plan={plan}", UP
    port = urlsplit(site.url).port
    assert port is not None
    with (
        by(transport, site) as (flags, _),
        Tap(port) as wire,
        Tap(int(flags[-1]) if transport == "cstore" else 0) as scu,
    ):
        monkeypatch.setenv("XNAT_HOST", f"http://127.0.0.1:{wire.port}")
        out = (*faces(tmp_path), "-vv", "--log-format", "json")
        ended = ingest("upload", what, *settled, *tapped(flags, scu), *out)
        assert {s["verdict"] for s in ended.report["sessions"]} == {"verified"}, ended.out + ended.err
        assert len(files_of(site)) == ended.totals["verified"] > len(SAMPLES)
        nothing_of_the_patient(site, ended, wire.said + scu.said)
        assert len(wire.said + scu.said) > ended.totals["bytes_sent"] / 2  # the taps heard it; a zip is smaller
        for face, data in written(tmp_path, ended):
            says_nobody(face, data)
        again = ingest("upload", what, *settled, *tapped(flags, scu))
        assert again.totals["already_there"] == again.totals["planned"] == ended.totals["verified"]
        assert again.totals["bytes_sent"] < 5000
    monkeypatch.setenv("XNAT_HOST", site.url)  # the tap is closed
    root = str(base / "tree") if name == "plan_file" else what
    seen = ingest("verify", root, *more, *UP)
    assert seen.totals["verified"] == ended.totals["verified"]
    nothing_of_the_patient(site, seen, wire.said)


def nothing_of_the_patient(site: StandIn, ended: Ended, wire: bytes) -> None:
    says_nothing(all_bytes(site, ended))
    says_nothing(wire)


@pytest.mark.wide
@pytest.mark.parametrize("destination", ["archive", "prearchive"])
@pytest.mark.parametrize("transport", TRANSPORT_FLAGS)
def test_growth_overwrite_and_what_is_left_open(
    ingest: Ingest, site: StandIn, tmp_path: Path, transport: str, destination: str
) -> None:
    root = plain(tmp_path / "tree")
    with by(transport, site) as (flags, _):
        ways = (*UP, *flags)
        assert ingest("upload", root, *ways, "--destination", destination).code == 0
        plain(root, files=5)
        grown = ingest("upload", root, *ways)
        assert (grown.code, grown.totals["verified"], grown.totals["already_there"]) == (0, 5, 3), grown.out
        plain(root, files=6)
        assert ingest("verify", root, *UP).code == 3
        over = ingest("upload", root, *ways, "--existing", "overwrite")
        assert (over.code, over.totals["verified"]) == (0, 6), over.out
    assert len(files_of(site)) == 6
    assert ingest("verify", root, *UP, "--proof", "pixels").code == 0
    says_nothing(all_bytes(site, over))
