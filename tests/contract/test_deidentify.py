"""--deidentify from end to end: nothing of the patient on the server's disk or in anything that the program writes."""

from __future__ import annotations

import csv
import errno
import json
import shutil
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import ImplicitVRLittleEndian

from tests.conftest import Ended, Ingest, stored
from tests.contract.table import files_of, media
from tests.contract.test_archives import to_tar, to_tgz, to_zip
from tests.contract.test_contract import by
from tests.dicom_trees import CT, Series, make_session, read, save, uid
from tests.dicom_trees import SAMPLES as SAMPLES_OF_PYDICOM
from tests.dicomscu import behind_meta
from tests.planted import ACCENTED, PERSON, leaks, patient, planted
from tests.standin import StandIn
from xnat_ingest.cli import main
from xnat_ingest.deidentify.pseudonyms import Key

SECRET = "a key for the tests of the contract, 64 characters are not needed"
SAMPLES = ("MR_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm", "MR_small_RLE.dcm", "test-SR.dcm")
UP = ("--deidentify", "basic")
Pack = Callable[[Path, Path], None]


@pytest.fixture(autouse=True)
def key(tmp_path: Path) -> Path:
    path = tmp_path / "deid.key"
    path.write_text(SECRET + "\n")
    return path


def write(folder: Path, dataset: Dataset, number: int, *, bare: bool = False) -> Path:
    path = save(dataset, folder / f"IM{number:06d}")  # type: ignore[arg-type]
    if bare:
        path.write_bytes(behind_meta(path.read_bytes()))
    return path


def tree(root: Path, *, bare: bool = False) -> Path:
    """One session full of the patient, and one of plain images of all encodings."""
    for number, (_, dataset) in enumerate(planted(), 1):
        dataset.file_meta.SourceApplicationEntityTitle = PERSON.accession
        dataset.preamble = PERSON.name.encode().ljust(128)
        write(root / "007" / "pre" / "MR_1", dataset, number, bare=bare and number % 2 == 0)
    for number, sample in enumerate(SAMPLES, 1):
        dataset = patient(PERSON, sample, number)
        dataset.StudyInstanceUID, dataset.SeriesNumber = uid("second study"), number
        write(root / "007" / "post" / f"S_{number}", dataset, number)
    return root


def all_bytes(site: StandIn, ended: Ended) -> bytes:
    """Everything that is on the server's disk, came in a request, or was written by the program."""
    disk = b"\n".join(str(path).encode() + path.read_bytes() for path in files_of(site))
    asked = b"\n".join(f"{r.path}".encode() for r in site.requests)
    return disk + asked + (ended.out + ended.err + json.dumps(ended.report, ensure_ascii=False)).encode()


def says_nothing(data: bytes) -> None:
    assert not leaks(data, PERSON)
    low = data.lower()
    for word in (*ACCENTED.words[:2], "kaestnerwald"):
        for encoding in ("utf-8", "latin-1"):
            assert word.lower().encode(encoding) not in low


FORMS: dict[str, Callable[[Path], tuple[str, ...]]] = {}


def form(make: Callable[[Path], tuple[str, ...]]) -> Callable[[Path], tuple[str, ...]]:
    FORMS[make.__name__] = make
    return make


@form
def folder(base: Path) -> tuple[str, ...]:
    return (str(tree(base / "tree")),)


@form
def without_meta(base: Path) -> tuple[str, ...]:
    return (str(tree(base / "tree", bare=True)),)


def _packed(base: Path, name: str, pack: Pack) -> tuple[str, ...]:
    pack(tree(base / "tree"), base / name)
    shutil.rmtree(base / "tree")
    return (str(base / name),)


@form
def as_zip(base: Path) -> tuple[str, ...]:
    return _packed(base, "study.zip", to_zip)


@form
def as_tar(base: Path) -> tuple[str, ...]:
    return _packed(base, "study.tar", to_tar)


@form
def as_stream(base: Path) -> tuple[str, ...]:
    return _packed(base, "study.tar.gz", to_tgz)


@form
def session_as_zip(base: Path) -> tuple[str, ...]:
    root = tree(base / "tree")
    to_zip(root / "007" / "pre", root / "007" / "pre.zip")
    shutil.rmtree(root / "007" / "pre")
    return (str(root),)


WAYS = [(name, "tar") for name in FORMS] + [("folder", way) for way in ("zip", "gradual", "cstore")]
WAYS += [("without_meta", "cstore"), ("as_stream", "cstore"), ("as_stream", "gradual")]


@pytest.mark.wide
@pytest.mark.parametrize(("name", "transport"), WAYS)
def test_nothing_planted_arrives(
    ingest: Ingest, site: StandIn, tmp_path: Path, key: Path, name: str, transport: str
) -> None:
    what = FORMS[name](tmp_path / "input")
    with by(transport, site) as (flags, _):
        ended = ingest("upload", *what, *UP, "--deid-key-file", str(key), *flags, "-vv", "--log-format", "json")
        assert ended.code == 3, ended.out + ended.err
        says_nothing(all_bytes(site, ended))
        reasons = {aside["reason"] for aside in ended.report["set_aside"]}
        assert reasons == {"residual-identifier", "not-deidentifiable"}
        assert {s["verdict"] for s in ended.report["sessions"]} == {"verified"}
        assert len(files_of(site)) == ended.totals["verified"] > 30
        again = ingest("upload", *what, *UP, "--deid-key-file", str(key), *flags)
    assert again.totals["already_there"] == again.totals["planned"] == ended.totals["verified"]
    assert again.totals["bytes_sent"] < 5000
    seen = ingest("verify", *what, *UP, "--deid-key-file", str(key))
    assert seen.totals["verified"] == ended.totals["verified"]
    says_nothing(all_bytes(site, seen))


def plain(root: Path, sessions: Sequence[str] = ("007/pre",), files: int = 3) -> Path:
    """Images with nothing that the search would find."""
    for session in sessions:
        for number in range(1, files + 1):
            dataset = patient(PERSON, number=number)
            dataset.StudyInstanceUID, dataset.SeriesInstanceUID = uid(session), uid(session, 1)
            dataset.SOPInstanceUID = uid(session, number)
            write(root / session / "MR_1", dataset, number)
    return root


def on_disk(site: StandIn) -> list[Dataset]:
    return [pydicom.dcmread(path) for path in files_of(site)]


@pytest.mark.wide
def test_what_arrives(ingest: Ingest, site: StandIn, tmp_path: Path, key: Path) -> None:
    root = plain(tmp_path / "tree")
    ended = ingest("upload", root, *UP, "--deid-key-file", str(key))
    assert ended.code == 0, ended.out + ended.err
    for dataset in on_disk(site):
        assert dataset.PatientIdentityRemoved == "YES"
        assert (dataset.PatientID, dataset.PatientName) == ("007", "007")
        assert dataset.PixelData == read("MR_small.dcm").PixelData
    studies = {str(dataset.StudyInstanceUID) for dataset in on_disk(site)}
    assert studies == {Key(SECRET.encode()).uid(uid("007/pre").encode()).decode()}
    assert ended.report["sessions"][0]["study_uid"] in studies


def test_the_report_tells_what_was_done_and_no_value(ingest: Ingest, tmp_path: Path, key: Path) -> None:
    root = plain(tmp_path / "tree")
    second = patient(PERSON, number=9)
    second.StudyInstanceUID, second.BurnedInAnnotation = uid("007/pre"), "YES"
    write(root / "007/pre/MR_1", second, 9)
    ended = ingest("upload", root, *UP, "--deid-key-file", str(key))
    told = ended.report["deidentification"]
    assert ended.code == 3
    assert (told["profile"], len(told["profile_sha256"])) == ("basic", 64)
    assert told["key_fingerprint"] == Key(SECRET.encode()).fingerprint
    assert told["objects"] == 3
    assert told["refused"] == {"burned-in": 1}
    assert told["actions"]["mapped"]["StudyInstanceUID"] == 3
    assert told["actions"]["removed"]["PatientAddress"] == 3
    assert "residual-identifier" not in json.dumps(told)
    assert SECRET not in json.dumps(ended.report) + ended.out + ended.err


def test_without_deidentify_the_report_says_nothing_of_it(ingest: Ingest, tmp_path: Path) -> None:
    assert "deidentification" not in ingest("plan", plain(tmp_path / "tree")).report


@pytest.mark.wide
def test_growth_overwrite_and_interrupted_sessions(ingest: Ingest, site: StandIn, tmp_path: Path, key: Path) -> None:
    root, flags = plain(tmp_path / "tree"), (*UP, "--deid-key-file", str(key))
    assert ingest("upload", root, *flags, "--destination", "prearchive").code == 0
    plain(root, files=5)
    grown = ingest("upload", root, *flags)
    assert (grown.code, grown.totals["verified"], grown.totals["already_there"]) == (0, 5, 3)
    plain(root, files=6)
    grown = ingest("upload", root, *flags)
    assert (grown.code, grown.totals["already_there"]) == (0, 5)
    over = ingest("upload", root, *flags, "--existing", "overwrite")
    assert (over.code, over.totals["verified"]) == (0, 6)
    assert len(files_of(site)) == 6


@pytest.mark.wide
def test_another_key_is_a_conflict_before_the_first_byte(
    ingest: Ingest, site: StandIn, tmp_path: Path, key: Path
) -> None:
    root = plain(tmp_path / "tree")
    assert ingest("upload", root, *UP, "--deid-key-file", str(key)).code == 0
    before = [path.read_bytes() for path in files_of(site)]
    key.write_text(SECRET[::-1])
    ended = ingest("upload", root, *UP, "--deid-key-file", str(key))
    assert ended.code == 3
    assert ended.report["sessions"][0]["verdict"] == "conflict"
    assert ended.totals["bytes_sent"] < 5000
    assert "another --deid-key-file" in ended.report["problems"][0]["detail"]
    assert [path.read_bytes() for path in files_of(site)] == before
    assert ingest("verify", root, *UP, "--deid-key-file", str(key)).code == 3


def test_a_key_is_needed_and_may_come_from_the_environment(
    ingest: Ingest,
    site: StandIn,
    tmp_path: Path,
    key: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = plain(tmp_path / "tree")
    assert main(["plan", str(root), "-P", "DEMO", *UP]) == 2
    assert "takes a key: make one with xnat-ingest identity new-key FILE" in capsys.readouterr().err
    monkeypatch.setenv("XNAT_INGEST_DEID_KEY", SECRET)
    ended = ingest("plan", root, *UP, "-vv")
    assert ended.code == 0
    assert "DEID_KEY is no setting" not in ended.err
    assert SECRET not in ended.err + ended.out
    assert "nothing is de-identified" not in ended.err
    assert "XNAT_INGEST_DEID_KEY is set, but nothing is de-identified" in ingest("plan", root).err
    monkeypatch.setenv("XNAT_INGEST_DEID_KEY", "short")
    assert main(["plan", str(root), "-P", "DEMO", *UP]) == 2
    assert "could be guessed" in capsys.readouterr().err
    assert not site.requests


def test_a_profile_that_needs_no_key(ingest: Ingest, tmp_path: Path) -> None:
    profile = tmp_path / "mine.json"
    profile.write_text('{"base": "basic", "uids": "keep"}')
    assert ingest("plan", plain(tmp_path / "tree"), "--deidentify", str(profile)).code == 0


@pytest.mark.parametrize(
    ("template", "code"), [("{PatientID}", 3), ("{InstitutionName}", 3), ("{Modality}x", 0), ("{StudyInstanceUID}", 0)]
)
def test_labels_are_made_of_what_leaves(ingest: Ingest, tmp_path: Path, key: Path, template: str, code: int) -> None:
    ended = ingest("plan", plain(tmp_path / "tree"), *UP, "--deid-key-file", str(key), "--subject-label", template)
    assert ended.code == code, ended.out
    if code:
        assert "is removed by --deidentify" in ended.report["problems"][0]["detail"]
        says_nothing(json.dumps(ended.report).encode())


def test_rules_see_the_original(ingest: Ingest, tmp_path: Path, key: Path) -> None:
    root = plain(tmp_path / "tree")
    rule = f"PatientName={PERSON.family}"
    ended = ingest("plan", root, *UP, "--deid-key-file", str(key), "--exclude", rule, "--allow-empty")
    assert ended.totals["excluded"] == 3


@pytest.mark.wide
def test_a_plan_file_remembers(
    ingest: Ingest, site: StandIn, tmp_path: Path, key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, flags = plain(tmp_path / "tree"), (*UP, "--deid-key-file", str(key))
    path = tmp_path / "plan.json"
    assert ingest("plan", root, *flags, "--json", str(path)).code == 0
    says_nothing(path.read_bytes())
    for given in ((), ("--deidentify", "dates-kept", "--deid-key-file", str(key))):
        assert main(["upload", "--plan", str(path), *given]) == 2
        assert "was made with another --deidentify profile or key" in capsys.readouterr().err
    document = json.loads(path.read_text())
    document["sessions"][0]["subject"] = "a-much-longer-label"  # written into the objects, so their sizes change
    path.write_text(json.dumps(document))
    ended = ingest("upload", f"--plan={path}", *flags)
    assert ended.code == 0, ended.out + ended.err
    assert {dataset.PatientID for dataset in on_disk(site)} == {"a-much-longer-label"}
    other = tmp_path / "plain.json"
    assert ingest("plan", root, "--json", str(other)).code == 0
    assert main(["upload", "--plan", str(other), *flags]) == 2
    assert "was made without --deidentify" in capsys.readouterr().err


@pytest.mark.wide
def test_the_crosswalk(ingest: Ingest, tmp_path: Path, key: Path) -> None:
    root, table = plain(tmp_path / "tree", ("007/pre", "007/post")), tmp_path / "crosswalk.csv"
    flags = ("--deidentify", "research-mr", "--deid-key-file", str(key), "--crosswalk", str(table))
    assert ingest("upload", root, *flags).code == 0
    assert ingest("upload", root, *flags).code == 0
    assert table.stat().st_mode & 0o777 == 0o600
    rows = list(csv.DictReader(table.read_text().splitlines()))
    places = {(PERSON.patient_id, "007", "007_post"), (PERSON.patient_id, "007", "007_pre")}
    assert len(rows) == 2
    assert {(row["patient_id"], row["subject"], row["session"]) for row in rows} == places
    for row in rows:
        own = Key(SECRET.encode())
        assert row["new_study_uid"] == own.uid(row["study_uid"].encode()).decode()
        assert int(row["days"]) == own.days(b"id\0" + PERSON.patient_id.encode())
    plain(root, ("008/pre",))
    assert ingest("upload", root, *flags).code == 0
    assert len(table.read_text().splitlines()) == 4


def test_the_crosswalk_has_every_patient_id_of_a_study(ingest: Ingest, tmp_path: Path, key: Path) -> None:
    """Dates are shifted by the PatientID, so each of them has days of its own."""
    root, table = tmp_path / "tree", tmp_path / "crosswalk.csv"
    for path in make_session(root / "007/pre", [Series("T1_1", 3, tags={"PatientID": "11111"})], "study")[1:]:
        dataset = pydicom.dcmread(path)
        dataset.PatientID = "99887"
        dataset.save_as(path)
    flags = ("--deidentify", "research-mr", "--deid-key-file", str(key), "--crosswalk", str(table))
    assert ingest("upload", root, *flags, "--allow-mixed-patients").code == 0
    rows = list(csv.DictReader(table.read_text().splitlines()))
    own = Key(SECRET.encode())
    days = {one: str(own.days(b"id\0" + one.encode())) for one in ("11111", "99887")}
    assert {row["patient_id"]: row["days"] for row in rows} == days
    assert len({row["new_study_uid"] for row in rows}) == 1


# What the images of one study name, and with whose dates those of each move.
_BY_ID, _BY_NAME = b"id\0PX1", b"name\0Quasten^H\x0019530417"
PATIENTS_OF_A_STUDY = {
    "an id is missing": (({"PatientID": ""}, {}), (_BY_ID, _BY_ID)),
    "id and name are missing": (({}, {"PatientID": "", "PatientName": ""}), (_BY_ID, _BY_ID)),
    "no id, and a birth date is missing": (
        ({"PatientID": ""}, {"PatientID": "", "PatientBirthDate": ""}),
        (_BY_NAME, _BY_NAME),
    ),
    "no id, and another name": (
        ({"PatientID": ""}, {"PatientID": "", "PatientName": "Seehund^H"}),
        (_BY_NAME, b"name\0Seehund^H\x0019530417"),
    ),
    "two ids": (({}, {"PatientID": ""}, {"PatientID": "PX2"}), (_BY_ID, _BY_NAME, b"id\0PX2")),
}


@pytest.mark.parametrize("by_plan", [False, True])
@pytest.mark.parametrize("what", PATIENTS_OF_A_STUDY)
def test_all_dates_of_a_study_move_together(
    ingest: Ingest, site: StandIn, tmp_path: Path, key: Path, what: str, by_plan: bool
) -> None:
    """Some image without the patient's id does not move by itself, unless nobody knows whose it is."""
    root, table, own = tmp_path / "tree", tmp_path / "crosswalk.csv", Key(SECRET.encode())
    images, patients = PATIENTS_OF_A_STUDY[what]
    same = {"PatientID": "PX1", "PatientName": "Quasten^H", "PatientBirthDate": "19530417", "StudyDate": "20200110"}
    paths = make_session(root / "007/pre", [Series("T1_1", len(images))], "study")
    for path, image in zip(paths, images, strict=True):
        dataset = pydicom.dcmread(path)
        for keyword, value in (same | image).items():
            setattr(dataset, keyword, value)
        dataset.save_as(path)
    flags = ("--deidentify", "research-mr", "--deid-key-file", str(key), "--allow-mixed-patients")
    if by_plan:
        plan = str(tmp_path / "plan.json")
        assert ingest("plan", root, *flags, "--json", plan).code == 0
        assert ingest("upload", f"--plan={plan}", *flags, "--crosswalk", str(table)).code == 0
    else:
        assert ingest("upload", root, *flags, "--crosswalk", str(table)).code == 0
    days = [own.days(patient) for patient in patients]
    moved = [(date(2020, 1, 10) + timedelta(one)).strftime("%Y%m%d") for one in days]
    objects = [pydicom.dcmread(path) for path in files_of(site) if path.suffix == ".dcm"]
    there = {str(one.InstanceNumber): one.StudyDate for one in objects}
    assert [there[number] for number in sorted(there)] == moved
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert {int(row["days"]) for row in rows} == set(days)
    assert ingest("verify", root, *flags, "--proof", "pixels").code == 0


@pytest.mark.parametrize("where", ["inside", "container", "other file", "no folder"])
def test_where_no_crosswalk_may_be(
    tmp_path: Path,
    key: Path,
    site: StandIn,
    where: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root, table = plain(tmp_path / "tree"), tmp_path / "crosswalk.csv"
    if where == "inside":
        table = root / "007" / "crosswalk.csv"
    elif where == "container":
        monkeypatch.setenv("XNAT_WORKFLOW_ID", "")
    elif where == "other file":
        table.write_text("a,b\n")
    else:
        table = tmp_path / "none" / "crosswalk.csv"
    code = main(["upload", str(root), "-P", "DEMO", *UP, "--deid-key-file", str(key), "--crosswalk", str(table)])
    assert code == 2
    assert "crosswalk" in capsys.readouterr().err
    assert not files_of(site)


def test_a_crosswalk_that_cannot_be_written(
    ingest: Ingest, tmp_path: Path, key: Path, site: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server was asked before, so this is not exit 2. Nothing is sent without it."""
    root = plain(tmp_path / "tree")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("xnat_ingest.deidentify.setup.replacing", full)
    ended = ingest("upload", root, *UP, "--deid-key-file", str(key), "--crosswalk", str(tmp_path / "c.csv"))
    assert (ended.code, "No space left on device" in ended.out + ended.err) == (3, True)
    assert not files_of(site)


@pytest.mark.wide
def test_references_between_objects_hold(ingest: Ingest, site: StandIn, tmp_path: Path, key: Path) -> None:
    """RTSTRUCT and SR point to images of the session, and to one of another session of the patient."""
    root = plain(tmp_path / "tree", ("007/pre", "007/post"))
    structures = pydicom.dcmread(SAMPLES_OF_PYDICOM / "rtstruct.dcm", force=True)
    structures.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    structures.PatientID, structures.StudyInstanceUID = PERSON.patient_id, uid("007/pre")
    item, far = Dataset(), Dataset()
    item.ReferencedSOPClassUID = far.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    item.ReferencedSOPInstanceUID, far.ReferencedSOPInstanceUID = uid("007/pre", 1), uid("007/post", 2)
    contour = Dataset()
    contour.ContourImageSequence = Items([item, far])
    structures.ROIContourSequence[0].ContourSequence = Items([contour])
    write(root / "007/pre/RT_2", structures, 1)
    report = read("test-SR.dcm")
    report.PatientID, report.StudyInstanceUID = PERSON.patient_id, uid("007/pre")
    image = Dataset()
    image.RelationshipType, image.ValueType, image.ReferencedSOPSequence = "CONTAINS", "IMAGE", Items([item])
    report.ContentSequence = Items([image])
    write(root / "007/pre/SR_3", report, 1)
    ended = ingest("upload", root, "--deidentify", "research-mr", "--deid-key-file", str(key))
    assert ended.code == 0, ended.out + ended.err
    there = on_disk(site)
    known = {str(dataset.SOPInstanceUID) for dataset in there}
    found = {
        (dataset.Modality, str(element.value))
        for dataset in there
        for element in dataset.iterall()
        if element.keyword == "ReferencedSOPInstanceUID"
    }
    own = Key(SECRET.encode())
    near, far_off = (own.uid(uid(*words).encode()).decode() for words in (("007/pre", 1), ("007/post", 2)))
    assert {("RTSTRUCT", near), ("RTSTRUCT", far_off), ("SR", near)} <= found
    assert {near, far_off} <= known
    studies = {str(d.StudyInstanceUID): d for d in there}
    assert len(studies) == 2


@pytest.mark.wide
def test_a_medium_with_a_dicomdir(ingest: Ingest, site: StandIn, tmp_path: Path, key: Path) -> None:
    given = media(tmp_path)
    flags = ["--layout", "headers", "--subject-label", "S1", "--session-label", "{StudyInstanceUID}"]
    flags.append("--allow-mixed-patients")
    ended = ingest("upload", given.root, *flags, "--deidentify", "research-mr", "--deid-key-file", str(key))
    assert ended.totals["verified"] == len(files_of(site)) > 10
    assert {aside["reason"] for aside in ended.report["set_aside"]} <= {"dicomdir", "burned-in"}
    assert not any(b"Doe^" in path.read_bytes() for path in files_of(site))
    assert {str(dataset.PatientName) for dataset in on_disk(site)} == {"S1"}


@pytest.mark.wide
def test_a_cut_file_is_not_rewritten(ingest: Ingest, site: StandIn, tmp_path: Path, key: Path) -> None:
    """--accept-truncated has no say: what is missing could be anything."""
    root = plain(tmp_path / "tree")
    for sample in ("MR_small.dcm", "MR_small_RLE.dcm"):
        dataset = patient(PERSON, sample, 9)
        dataset.StudyInstanceUID = uid("007/pre")
        path = write(root / "007/pre/MR_1", dataset, len(sample))
        path.write_bytes(path.read_bytes()[:-500])
    ended = ingest("upload", root, *UP, "--deid-key-file", str(key), "--accept-truncated")
    assert ended.code == 3
    assert {aside["reason"] for aside in ended.report["set_aside"]} == {"not-deidentifiable"}
    assert len(files_of(site)) == 3


def test_ct_and_plain_trees_are_sent_whole(ingest: Ingest, site: StandIn, tmp_path: Path, key: Path) -> None:
    dataset = patient(PERSON, CT)
    write(tmp_path / "tree/007/pre/CT_1", dataset, 1)
    assert ingest("upload", tmp_path / "tree", *UP, "--deid-key-file", str(key)).code == 0
    assert len(stored(site, "DEMO", "007", "007_pre").files) == 1
    assert on_disk(site)[0].PixelData == read(CT).PixelData


def named_tree(root: Path, sheet: Path) -> Path:
    """Folders and files are called after the patient, and a sheet gives the labels."""
    for name in ("pre", "post"):
        folder = root / PERSON.family / f"{PERSON.given} {name}" / f"{PERSON.patient_id} MR_1"
        for number in (1, 2):
            dataset = patient(PERSON, number=number)
            dataset.StudyInstanceUID, dataset.SOPInstanceUID = uid(name), uid(name, number)
            save(dataset, folder / f"{PERSON.given}_{number}")  # type: ignore[arg-type]
        (folder / f"{PERSON.family}.txt").write_text("no image")
        broken = save(patient(PERSON, number=9), folder / f"{PERSON.family}_broken")  # type: ignore[arg-type]
        broken.write_bytes(broken.read_bytes()[:-900])
    rows = (f"{PERSON.family}/{PERSON.given} {name},S01,S01_{name}" for name in ("pre", "post"))
    sheet.write_text("folder,subject,session\n" + "\n".join(rows) + "\n")
    return root


@pytest.mark.wide
@pytest.mark.parametrize("fault", ["none", "conflict", "gone"])
def test_names_of_folders_are_redacted(ingest: Ingest, site: StandIn, tmp_path: Path, key: Path, fault: str) -> None:
    root = named_tree(tmp_path / "tree", sheet := tmp_path / "labels.csv")
    if fault == "conflict":  # one study in two folders: a sentence names both
        for path in root.rglob(f"{PERSON.given}_*"):
            dataset = pydicom.dcmread(path)
            dataset.StudyInstanceUID = uid("one")
            dataset.save_as(path)
    flags = ("--deid-key-file", str(key), "--labels", str(sheet), "--redact-paths", "-vv")
    ended = ingest("upload", root, *UP, *flags)
    assert ended.code == 3
    assert ended.totals["verified"] == (0 if fault == "conflict" else 4)
    data = all_bytes(site, ended)
    says_nothing(data.replace(str(sheet).encode(), b""))
    assert all(aside["path"].startswith("n-") for aside in ended.report["set_aside"])
    assert {session["label"] for session in ended.report["sessions"]} == {"S01_pre", "S01_post"}
    again = ingest("upload", root, *UP, *flags)
    assert again.totals["already_there"] == ended.totals["verified"]


def test_names_that_became_labels_are_redacted_where_it_is_said_what_became_of_them(
    ingest: Ingest, site: StandIn, tmp_path: Path
) -> None:
    make_session(tmp_path / "t/Anna W\u00e4g/Erste Visite", (Series("T1_0001", 1),), "study")
    make_session(tmp_path / "theirs/Anna_W_g/other", (Series("T1_0001", 1),), "theirs")
    assert ingest("upload", tmp_path / "theirs").code == 0
    ended = ingest("upload", tmp_path / "t", "--redact-paths", "--html", str(tmp_path / "page.html"))
    page = (tmp_path / "page.html").read_text()
    assert "subject-exists" in ended.kinds()
    assert "has characters that XNAT does not take in labels" in ended.out
    for text in (ended.out, ended.err, page, json.dumps(ended.report, ensure_ascii=False)):
        assert not {word for word in ("Anna W", "W\u00e4g", "Erste Visite") if word in text}


@pytest.mark.parametrize("name", ["json", "labels-template"])
def test_files_for_review_need_the_real_names(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    root = named_tree(tmp_path / "tree", tmp_path / "labels.csv")
    assert main(["plan", str(root), "-P", "DEMO", "--redact-paths", f"--{name}", str(tmp_path / "out")]) == 2
    assert "--redact-paths" in capsys.readouterr().err


@pytest.mark.wide
def test_redacted_paths_of_a_plan_file_and_of_an_archive(
    ingest: Ingest, site: StandIn, tmp_path: Path, key: Path
) -> None:
    root = named_tree(tmp_path / "tree", sheet := tmp_path / "labels.csv")
    to_tgz(root, tmp_path / "study.tar.gz")
    flags, labels = (*UP, "--deid-key-file", str(key)), ("--labels", str(sheet))
    assert ingest("plan", root, *flags, *labels, "--json", str(tmp_path / "plan.json")).code == 3
    ended = ingest("upload", f"--plan={tmp_path / 'plan.json'}", *flags, "--redact-paths")
    assert ended.totals["verified"] == 4
    says_nothing(all_bytes(site, ended))
    ended = ingest("verify", tmp_path / "study.tar.gz", *flags, *labels, "--redact-paths")
    assert ended.totals["verified"] == 4
    says_nothing(all_bytes(site, ended))


def test_a_bug_in_the_reports_part_does_not_cost_the_verdicts(
    ingest: Ingest, site: StandIn, tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was sent and proven is told all the same, and the run does not end as if all were well."""
    make_session(tmp_path / "t" / "007" / "pre", [Series("T1", 2)], "one")

    def broken(*_: object) -> dict[str, object]:
        raise KeyError("U*")

    monkeypatch.setattr("xnat_ingest.deidentify.setup.summary", broken)
    ended = ingest("upload", tmp_path / "t", *UP, "--deid-key-file", str(key))
    assert ended.code == 70
    assert ended.totals["verified"] == 2
    assert ("run-failed", "a bug in this program (KeyError)") in {
        (p["kind"], p["detail"]) for p in ended.report["problems"]
    }
    assert "KeyError" in ended.err
