"""What lies beside a NIfTI image: gradient tables, the other half of a pair, and what is not sent."""

from __future__ import annotations

import errno
import gzip
import json
from pathlib import Path
from typing import BinaryIO

import pytest

from tests.nifti_trees import PLAIN, image, mr, only, planned, put, reasons, scan, scans
from xnat_ingest.commands.nifti.plan import make_nifti_plan
from xnat_ingest.commands.nifti.tree import read_tree
from xnat_ingest.inputs import FolderSource
from xnat_ingest.planning.rules import RuleConfig, RuleSet

PRE = Path("007/pre")
VOXELS = 4 * 4 * 3 * 2


@pytest.mark.parametrize("names", [("bvals", "bvecs"), ("dti.bvals", "dti.bvecs"), ("BVALS", "bvecs.gz")])
def test_gradient_tables_of_fsl_and_hcp_are_sidecars(tmp_path: Path, names: tuple[str, str]) -> None:
    folder = tmp_path / PRE / "DTI"
    scan(folder / "dti", mr(5, "DTI"))
    for name in names:
        put(folder / name, "0 1000\n")
    plan = planned(tmp_path)
    stored = scans(only(plan))["5"][3]
    assert sorted(stored[1:]) == sorted([f"BIDS/{names[0]}", f"BIDS/{names[1]}", "BIDS/dti.json"])
    assert plan.set_aside == ()


def test_a_gradient_table_goes_with_the_only_image_of_a_flat_session(tmp_path: Path) -> None:
    """Of two images nobody can tell whose it is: a problem."""
    scan(tmp_path / PRE / "data", mr(5, "DTI"))
    put(tmp_path / PRE / "bvals", "0 1000\n")
    assert "BIDS/bvals" in scans(only(planned(tmp_path)))["5"][3]
    scan(tmp_path / PRE / "t1", mr(2, "T1"))
    assert reasons(planned(tmp_path)) == {"007/pre/bvals": "no-image"}


# Images below a session -> what each one's sidecar says; the table; a rule, or None to cut the image `dwi`; and where
# the table goes: a scan, or the reason why it is not sent.
DWI = {"path": "**/dwi*"}
T1W = {"path": "**/t1*"}
TABLES: dict[str, tuple[dict[str, int], str, RuleConfig | None, str]] = {
    "left out": ({"sc/t1": 2, "sc/dwi": 3}, "sc/bvals", DWI, "no-image"),
    "left out by its sidecar": (
        {"sc/t1": 2, "sc/dwi": 3},
        "sc/bvals",
        {"tag": "SeriesDescription", "matches": "dwi"},
        "no-image",
    ),
    "cut": ({"sc/t1": 2, "sc/dwi": 3}, "sc/bvals", None, "no-image"),
    "cut, without sidecars": ({"sc/t1": 0, "sc/dwi": 0}, "sc/bvals", None, "no-image"),
    "flat session": ({"t1": 2, "dwi": 3}, "bvals", DWI, "no-image"),
    "the other one left out": ({"sc/t1": 2, "sc/dwi": 3}, "sc/bvals", T1W, "no-image"),
    "alone, left out": ({"a/t1": 2, "b/dwi": 3}, "b/bvals", DWI, "excluded:path=**/dwi*"),
    "alone, cut": ({"a/t1": 2, "b/dwi": 3}, "b/bvals", None, "truncated"),
    "other folder left out": ({"a/t1": 2, "b/dwi": 3}, "b/bvals", T1W, "3"),
    "folders of one scan": ({"sc/a/t1": 2, "sc/b/dwi": 3}, "sc/b/bvals", T1W, "3"),
    "folders of one scan, left out": ({"sc/a/t1": 2, "sc/b/dwi": 3}, "sc/b/bvals", DWI, "excluded:path=**/dwi*"),
    "in a folder of its own": ({"sc/dwi": 3}, "sc/grad/bvals", T1W, "3"),
    "in a folder of its own, left out": ({"sc/t1": 2, "sc/dwi": 3}, "sc/grad/bvals", DWI, "no-image"),
    "a folder named like an image": ({"sc": 2, "sc/dwi": 3}, "sc/bvals", T1W, "3"),
    "the same name twice": ({"sc/dwi": 3, "sc/dwi.copy": 3}, "sc/bvals", {"path": "**/*.copy.*"}, "no-image"),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_may_belong_to_an_image_that_is_not_sent(tmp_path: Path, name: str) -> None:
    images, table, rule, goes = TABLES[name]
    for stem, number in images.items():
        scan(tmp_path / PRE / stem, mr(number, stem.rpartition("/")[2]) if number else {})
    path = tmp_path / PRE / next(stem for stem in images if stem.endswith("dwi"))
    if not rule:
        image_ = Path(f"{path}.nii.gz")
        image_.write_bytes(image_.read_bytes()[:-20])
    put(tmp_path / PRE / table, "0 1000\n")
    plan = planned(tmp_path, PLAIN, *([rule] if rule else []))
    stored = [
        id_ for session in plan.sessions for id_, one in scans(session).items() if any("bvals" in f for f in one[3])
    ]
    assert [*stored, *(why for file, why in reasons(plan).items() if "bvals" in file)] == [goes]


def test_a_placeholder_beside_the_image_is_no_other_image(tmp_path: Path) -> None:
    scan(tmp_path / PRE / "sc" / "dwi", mr(3, "dwi"))
    put(tmp_path / PRE / "sc" / "dwi.nii", "")
    put(tmp_path / PRE / "sc" / "bvals", "0 1000\n")
    assert "BIDS/bvals" in scans(only(planned(tmp_path)))["3"][3]


@pytest.mark.parametrize(("runs", "rule", "goes"), [(1, None, "1"), (2, None, "no-image"), (2, DWI, "no-image")])
def test_a_table_in_a_bids_tree(tmp_path: Path, runs: int, rule: RuleConfig | None, goes: str) -> None:
    folder = tmp_path / "sub-01" / "dwi"
    for number in range(1, runs + 1):
        scan(folder / f"sub-01_run-{number}_dwi", {})
    put(folder / "bvals", "0 1000\n")
    plan = planned(tmp_path, PLAIN, *([{"path": "**/*run-2*"}] if rule else []))
    stored = [id_ for id_, one in scans(only(plan)).items() if any("bvals" in f for f in one[3])]
    assert [*stored, *(why for file, why in reasons(plan).items() if "bvals" in file)] == [goes]


def test_what_lies_beside_an_image_and_is_not_sent_is_named(tmp_path: Path) -> None:
    """Junk and what lies in other folders is not."""
    scan(tmp_path / PRE / "DTI" / "dti", mr(5, "DTI"))
    for name in ("DTI/grad.b", "DTI/notes.txt", "DTI/.DS_Store", "papers/consent.txt"):
        put(tmp_path / PRE / name, "x")
    told = [problem.detail for problem in planned(tmp_path).problems if problem.kind == "left-beside"]
    (text,) = told
    assert text == (
        "2 files beside images are neither images nor sidecars and were not sent: 007/pre/DTI/grad.b, "
        "007/pre/DTI/notes.txt; store them with xnat-ingest resource put if they matter"
    )
    for number in range(6):
        put(tmp_path / PRE / "DTI" / f"a{number}.txt", "x")
    (long,) = (problem.detail for problem in planned(tmp_path).problems if problem.kind == "left-beside")
    assert "8 files" in long
    assert "a4.txt, ...;" in long


def test_nothing_is_said_where_nothing_is_left(tmp_path: Path) -> None:
    scan(tmp_path / PRE / "DTI" / "dti", mr(5, "DTI"), diffusion=True)
    assert [problem.kind for problem in planned(tmp_path).problems] == []


@pytest.mark.parametrize("suffix", [".img", ".img.gz"])
@pytest.mark.parametrize("header_suffix", [".hdr", ".hdr.gz"])
@pytest.mark.parametrize("version", [1])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_pair_is_held_against_its_header(
    tmp_path: Path, suffix: str, header_suffix: str, version: int, order: str
) -> None:
    """One byte less than the header promises, and neither half is sent."""
    header = image(mark="ni", order=order, version=version)
    put(tmp_path / PRE / "T1" / f"i{header_suffix}", gzip.compress(header) if "gz" in header_suffix else header)
    put(tmp_path / PRE / "T1" / "i.json", '{"Modality": "MR"}')
    for size, told in ((VOXELS, {}), (VOXELS - 1, {header_suffix: "truncated", suffix: "truncated"})):
        put(tmp_path / PRE / "T1" / f"i{suffix}", gzip.compress(bytes(size)) if "gz" in suffix else bytes(size))
        found = reasons(planned(tmp_path))
        found.pop("007/pre/T1/i.json", "")
        assert found == {f"007/pre/T1/i{end}": why for end, why in told.items()}


def test_a_packed_half_that_is_cut(tmp_path: Path) -> None:
    """In its last bytes, or in its first ones."""
    whole = gzip.compress(bytes(range(VOXELS)))
    for kept in (len(whole) - 5, 12, 0):
        put(tmp_path / PRE / "T1" / "i.hdr", image(mark="ni"))
        put(tmp_path / PRE / "T1" / "i.img.gz", whole[:kept])
        found = reasons(planned(tmp_path))
        assert found["007/pre/T1/i.hdr"] == "truncated"
        assert found["007/pre/T1/i.img.gz"] in ("truncated", "empty")


def test_a_cut_half_is_not_sent_with_another_image_of_its_folder(tmp_path: Path) -> None:
    scan(tmp_path / PRE / "T1" / "whole", mr(2, "T1"))
    put(tmp_path / PRE / "T1" / "i.hdr", image(mark="ni"))
    put(tmp_path / PRE / "T1" / "i.img", bytes(VOXELS - 1))
    plan = planned(tmp_path)
    assert reasons(plan) == {"007/pre/T1/i.hdr": "truncated", "007/pre/T1/i.img": "truncated"}
    assert scans(only(plan))["2"][3] == ["NIFTI/whole.nii.gz", "BIDS/whole.json"]


LOCALIZER = {"Modality": "MR", "SeriesDescription": "localizer", "PatientName": "Doe^Jane"}


@pytest.mark.parametrize(
    "rule", [{"tag": "SeriesDescription", "matches": "localizer"}, {"path": "**/img0.nii.gz"}, None]
)
@pytest.mark.parametrize("other", [None, {"Modality": "MR", "SeriesDescription": "T1"}, mr(2, "T1")])
def test_the_sidecar_of_an_image_that_is_not_sent_stays(
    tmp_path: Path, rule: RuleConfig | None, other: dict[str, object] | None
) -> None:
    """Another image of its folder is sent. Without a rule, the image is cut."""
    folder = tmp_path / "a" / "pre" / "mix"
    scan(folder / "img0", LOCALIZER)
    scan(folder / "img1", other)
    image = folder / "img0.nii.gz"
    if not rule:
        image.write_bytes(image.read_bytes()[:-20])
    plan = planned(tmp_path, PLAIN, *([rule] if rule else []))
    (files,) = (one[3] for one in scans(only(plan)).values())
    assert files == ["NIFTI/img1.nii.gz", *(["BIDS/img1.json"] if other else [])]
    asides = reasons(plan)
    assert asides["a/pre/mix/img0.json"] == asides["a/pre/mix/img0.nii.gz"]


def test_a_sidecar_stays_with_the_image_of_its_name_that_is_sent(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "pre" / "mix"
    scan(folder / "img0", mr(2, "T1"))
    (folder / "img0.nii").write_bytes(b"")  # a placeholder
    (files,) = (one[3] for one in scans(only(planned(tmp_path))).values())
    assert files == ["NIFTI/img0.nii.gz", "BIDS/img0.json"]


def test_a_sidecar_that_cannot_be_read_holds_its_image_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the image would go to another series' scan, and lie in its own, too, when it can be read again."""
    scan(tmp_path / PRE / "sc/t1", mr(2, "T1"))
    scan(tmp_path / PRE / "sc/dwi", mr(3, "DWI"))
    source = FolderSource(tmp_path)
    opened = source.open

    def fail(path: str) -> BinaryIO:
        if path.endswith("dwi.json"):
            raise OSError(errno.EMFILE, "Too many open files")
        return opened(path)

    monkeypatch.setattr(source, "open", fail)
    plan = make_nifti_plan(read_tree(source, RuleSet([], []), lambda: None, fixed=False), PLAIN)
    assert reasons(plan) == dict.fromkeys(("007/pre/sc/dwi.json", "007/pre/sc/dwi.nii.gz"), "unreadable")
    assert list(scans(only(plan))) == ["2"]


@pytest.mark.parametrize(
    ("number", "with_image"), [(3, False), (2, True), (0, True)], ids=["another series", "this one", "no series"]
)
def test_a_sidecar_without_its_image(tmp_path: Path, number: int, with_image: bool) -> None:
    """One that names another series waits for its image."""
    scan(tmp_path / PRE / "sc/t1", mr(2, "T1"))
    put(tmp_path / PRE / "sc/x.json", json.dumps(mr(number, "X") if number else {"Modality": "MR"}))
    plan = planned(tmp_path)
    assert reasons(plan) == ({} if with_image else {"007/pre/sc/x.json": "no-image"})
    assert ("BIDS/x.json" in scans(only(plan))["2"][3]) == with_image
