"""Files that are not sent as they lie there: what the server has then, what the plan says, what the user accepts."""

from __future__ import annotations

import json
from pathlib import Path

import pydicom
import pytest

from tests.conftest import Ingest
from tests.contract.table import held, on_disk
from tests.dicom_trees import Series, make_session, read, save, uid
from tests.dicomscu import behind_meta
from tests.standin import StandIn
from tests.transport_flags import TRANSPORT_FLAGS, transport_flags
from xnat_ingest.cli import main

SERIES = (
    Series("T1_1", 2),
    Series("deflated_2", 2, "image_dfl.dcm"),
    Series("explicit_3", 1),
    Series("implicit_4", 1, "MR_small_implicit.dcm"),
    Series("big_5", 1, "MR_small_bigendian.dcm"),
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two files as they should be, two deflated ones, and three bare data sets of each encoding."""
    for path in make_session(tmp_path / "tree/007/pre", SERIES, "forms"):
        if path.parent.name.partition("_")[0] in ("explicit", "implicit", "big"):
            path.write_bytes(behind_meta(path.read_bytes()))
    return tmp_path / "tree"


NOTES = {
    "inflated": "2 deflated files are sent inflated: XNAT would store them without their pixels",
    "header-added": "3 files do not say how they are encoded, or say it wrongly; "
    "they are sent with a correct file header",
}


def notes(report: dict[str, list[dict[str, str]]]) -> dict[str, str]:
    return {problem["kind"]: problem["detail"] for problem in report["problems"]}


@pytest.mark.wide
def test_the_plan_and_the_report_say_it(root: Path, ingest: Ingest, tmp_path: Path) -> None:
    planned = ingest("plan", root, "--json", str(tmp_path / "plan.json"))
    assert (planned.code, notes(planned.report)) == (0, NOTES)
    assert all(text in planned.out for text in NOTES.values())
    document = json.loads((tmp_path / "plan.json").read_text())
    assert notes(document) == NOTES
    forms = [i["form"] for session in document["sessions"] for i in session["instances"]]
    assert sorted(forms) == ["file"] * 2 + ["headed"] * 3 + ["inflated"] * 2
    uploaded = ingest("upload", root)
    assert (uploaded.code, notes(uploaded.report)) == (0, NOTES)
    assert [problem["sessions"] for problem in uploaded.report["problems"]] == [["007_pre"]] * 2


@pytest.mark.wide
@pytest.mark.parametrize("way", TRANSPORT_FLAGS)
def test_what_lies_on_the_server_is_readable_and_whole(
    way: str, root: Path, site: StandIn, ingest: Ingest, tmp_path: Path
) -> None:
    """By a reader that forces nothing; a plan that was written down sends the same."""
    with site.receive() as receiver:
        by = transport_flags(way, receiver.port)
        assert ingest("plan", root, "--json", str(tmp_path / "plan.json")).code == 0
        assert main(["upload", "--plan", str(tmp_path / "plan.json"), *by]) == 0
    files = list(site.root.rglob("*.dcm"))
    there = {str(one.SOPInstanceUID): one for one in map(pydicom.dcmread, files)}
    here = {str(one.SOPInstanceUID): one for one in (pydicom.dcmread(p, force=True) for p in root.rglob("IM*"))}
    assert there.keys() == here.keys()
    for key, one in there.items():
        assert one.PixelData == here[key].PixelData
        assert one.file_meta.TransferSyntaxUID in ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
    assert len({str(one.file_meta.TransferSyntaxUID) for one in there.values()}) == 3


def test_a_plan_of_a_version_that_did_not_inflate_is_refused(
    root: Path, ingest: Ingest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "plan.json"
    assert ingest("plan", root, "--json", str(path)).code == 0
    document = json.loads(path.read_text())
    for instance in document["sessions"][0]["instances"]:
        for key in ("form", "sent_size", "head_size", "flaw"):
            del instance[key]
    path.write_text(json.dumps(document))
    assert main(["upload", "--plan", str(path)]) == 2
    assert "was planned by another version; plan again" in capsys.readouterr().err


@pytest.fixture
def cut(tmp_path: Path) -> Path:
    """A session of a whole image, one that was cut in its pixels, and one that was cut before Rows."""
    paths = make_session(tmp_path / "cut/007/pre", [Series("T1_1", 3)], "cut")
    raw = paths[1].read_bytes()
    paths[1].write_bytes(raw[: len(raw) // 2])
    before_rows = pydicom.dcmread(paths[2])
    for element in [one for one in before_rows if one.tag >= 0x00280000]:
        del before_rows[element.tag]
    save(before_rows, paths[2])
    return tmp_path / "cut"


def test_cut_images_are_named_and_left(cut: Path, ingest: Ingest) -> None:
    ended = ingest("upload", cut)
    assert (ended.code, ended.totals["verified"], ended.totals["set_aside"]) == (3, 1, 2)
    assert {(aside["path"], aside["reason"], aside["detail"]) for aside in ended.report["set_aside"]} == {
        ("007/pre/T1_1/IM000002", "truncated", "the file ends before its data does"),
        ("007/pre/T1_1/IM000003", "truncated", "it has no pixel data: it was truncated, or is only a header"),
    }


@pytest.mark.sampled(2)
@pytest.mark.parametrize("given", ["flag", "environment", "config"])
@pytest.mark.parametrize("transport", ["archive", "gradual"])
def test_truncated_files_that_are_accepted_are_sent_and_named(
    given: str,
    transport: str,
    cut: Path,
    site: StandIn,
    ingest: Ingest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words: tuple[str, ...] = ("--accept-truncated",)
    if given == "environment":
        monkeypatch.setenv("XNAT_INGEST_ACCEPT_TRUNCATED", "yes")
        words = ()
    elif given == "config":
        (tmp_path / "config.json").write_text('{"accept_truncated": true}')
        words = ("--config", str(tmp_path / "config.json"))
    ended = ingest("upload", cut, *words, "--transport", transport)
    assert (ended.code, ended.totals["verified"], ended.totals["set_aside"]) == (0, 3, 0)
    told = [problem for problem in ended.report["problems"] if problem["kind"] == "truncated-sent"]
    assert [problem["detail"] for problem in told] == [
        f"007/pre/T1_1/IM00000{number} is truncated, but is sent (--accept-truncated)" for number in (2, 3)
    ]
    assert len(on_disk(site)) == 3
    assert ingest("upload", cut, *words).totals["bytes_sent"] == 0
    assert ingest("verify", cut, *words).code == 0


def test_what_rightly_has_rows_and_no_pixels_is_sent(site: StandIn, ingest: Ingest, tmp_path: Path) -> None:
    """A spectrum, and raw data that say their rows."""
    folder = tmp_path / "tree/007/pre/x"
    for number, sop_class in enumerate(("1.2.840.10008.5.1.4.1.1.4.2", "1.2.840.10008.5.1.4.1.1.66"), 1):
        dataset = read("MR_small.dcm")
        del dataset.PixelData
        dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, uid("mrs", number)
        dataset.SeriesInstanceUID, dataset.SeriesNumber = uid("mrs series", number), number
        if number == 1:
            dataset.SpectroscopyData = bytes(256)
        save(dataset, folder / f"IM{number}")
    ended = ingest("upload", tmp_path / "tree")
    assert (ended.code, ended.totals["verified"]) == (0, 2)
    assert on_disk(site) == held(folder.iterdir(), lambda *_: "007_pre")


def test_an_image_that_lacks_its_last_mark_is_sent_with_a_note(site: StandIn, ingest: Ingest, tmp_path: Path) -> None:
    (path,) = make_session(tmp_path / "tree/007/pre", [Series("T1_1", 1, "MR_small_jp2klossless.dcm")], "mark")
    raw = path.read_bytes()
    path.write_bytes(raw[: raw.rindex(bytes.fromhex("feffdde000000000"))])
    ended = ingest("upload", tmp_path / "tree")
    assert (ended.code, ended.totals["verified"], ended.kinds()) == (0, 1, ["unended"])
