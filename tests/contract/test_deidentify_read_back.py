"""The read-back of de-identified sessions: it tells when the server holds again what was removed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pydicom
import pytest

from tests.conftest import Ended, Ingest
from tests.contract.table import files_of
from tests.contract.test_contract import by
from tests.contract.test_deidentify import SECRET, UP, plain
from tests.planted import PERSON, leaks
from tests.standin import Fault, StandIn
from xnat_ingest.deidentify import restored


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XNAT_INGEST_DEID_KEY", SECRET)


def says_nobody(ended: Ended) -> None:
    said = ended.out + ended.err + json.dumps(ended.report, ensure_ascii=False)
    assert leaks(said.encode(), PERSON) == []


BACK = {
    "the name, in its place": (f"put:PatientName={PERSON.name}", "PatientName"),
    "the id, in its place": (f"put:PatientID={PERSON.patient_id}", "PatientID"),
    "the id, elsewhere": (f"put:ImageComments=of_{PERSON.patient_id}", "ImageComments"),
    "the accession number": (f"put:AccessionNumber={PERSON.accession}", "AccessionNumber"),
    "the birth date": (f"put:PatientBirthDate={PERSON.birth}", "PatientBirthDate"),
    "a date that is no token": ("put:StudyDate=20040826", "StudyDate"),
}


@pytest.mark.wide
@pytest.mark.parametrize("what", BACK)
def test_a_script_that_puts_it_back(ingest: Ingest, site: StandIn, tmp_path: Path, what: str) -> None:
    script, keyword = BACK[what]
    site.settings.site_anonymization, site.settings.site_script = True, script
    ended = ingest("upload", plain(tmp_path / "tree"), *UP)
    assert ended.code == 3, ended.out
    assert ended.kinds() == ["reidentified"]
    assert f"{keyword} (1) of 1 objects" in ended.report["problems"][0]["detail"]
    assert ended.report["deidentification"]["restored"] == {keyword: 1}
    assert ended.totals["verified"] == 3  # all of it is there, which is the trouble
    says_nobody(ended)
    deep = ingest("verify", tmp_path / "tree", *UP, "--proof", "pixels")
    assert (deep.code, deep.report["deidentification"]["restored"]) == (3, {keyword: 3})
    assert ingest("verify", tmp_path / "tree", *UP, "--proof", "listing").code == 0


@pytest.mark.wide
@pytest.mark.parametrize("transport", ["tar", "gradual", "cstore"])
def test_what_a_script_may_write(ingest: Ingest, site: StandIn, tmp_path: Path, transport: str) -> None:
    """Labels, as XNAT's own script writes them, and as they are stamped for its receiver; a word in place of a name."""
    site.settings.site_anonymization = True
    site.settings.site_script = "name put:StudyDescription=DEMO put:PatientID=007_pre"
    with by(transport, site) as (flags, _):
        ended = ingest("upload", plain(tmp_path / "tree"), *UP, *flags)
    assert ended.code == 0, ended.out
    assert not {"reidentified", "elements-returned"} & set(ended.kinds())
    assert ended.report["deidentification"]["restored"] == ended.report["deidentification"]["returned"] == {}


@pytest.mark.wide
def test_removed_elements_that_hold_something_else(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    site.settings.site_anonymization, site.settings.site_script = True, "put:InstitutionName=Ward_7"
    ended = ingest("upload", plain(tmp_path / "tree"), *UP)
    assert (ended.code, ended.kinds()) == (0, ["elements-returned"])
    assert "InstitutionName (1)" in ended.report["problems"][0]["detail"]
    assert ended.report["deidentification"]["returned"] == {"InstitutionName": 1}
    again = ingest("verify", tmp_path / "tree", *UP)
    assert (again.code, again.report["proof"]["read_back"]) == (0, 1), "a note is no reason to read all headers"
    assert "Ward_7" not in json.dumps(ended.report)


@pytest.mark.wide
def test_without_deidentify_nothing_is_looked_for(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    site.settings.site_anonymization, site.settings.site_script = True, f"put:ImageComments={PERSON.patient_id}"
    assert ingest("upload", plain(tmp_path / "tree")).kinds() == []


@pytest.fixture
def kept(tmp_path: Path) -> tuple[str, ...]:
    """A profile that keeps UIDs, so what was sent without one has the same names on the server."""
    profile = tmp_path / "kept.json"
    profile.write_text(json.dumps({"base": "basic", "uids": "keep"}))
    return ("--deidentify", str(profile))


@pytest.mark.parametrize("destination", ["archive", "prearchive", "direct-archive"])
@pytest.mark.parametrize("left", [(0,), (2,), (0, 1), (0, 1, 2)])
def test_what_a_run_without_deidentify_has_left(
    ingest: Ingest, site: StandIn, tmp_path: Path, kept: tuple[str, ...], left: tuple[int, ...], destination: str
) -> None:
    """Its copies are there already, whole and of the right names. Each of them is looked into."""
    tree = plain(tmp_path / "tree")
    files = sorted(path for path in tree.rglob("*") if path.is_file())
    before = tmp_path / "before"
    for number in left:
        copy = before / files[number].relative_to(tree)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(files[number].read_bytes())
    assert ingest("upload", before, "--destination", destination).code == 0
    ended = ingest("upload", tree, *kept, "--destination", destination)
    identified = [path for path in files_of(site) if leaks(path.read_bytes(), PERSON)]
    assert (ended.code, "reidentified" in ended.kinds()) == ((3, True) if identified else (0, False)), ended.out
    if destination != "direct-archive":  # there, copies of a length that is not like the others' are sent again
        assert bool(identified) == (destination == "archive"), "in the prearchive they are sent again"
    checked = ingest("verify", tree, *kept, "--destination", destination)
    assert checked.code == (3 if identified else 0)
    says_nobody(ended)


def test_what_is_there_deidentified_is_in_order(
    ingest: Ingest, site: StandIn, tmp_path: Path, kept: tuple[str, ...]
) -> None:
    tree = plain(tmp_path / "tree")
    assert ingest("upload", tree, *kept).code == 0
    again = ingest("upload", tree, *kept)
    assert (again.code, again.totals["already_there"], again.totals["bytes_sent"]) == (0, 3, 0)
    assert again.report["proof"]["read_back"] == 3


def enlarged(tree: Path) -> None:
    """Pixels of two megabytes in each image."""
    for path in (path for path in tree.rglob("*") if path.is_file()):
        dataset = pydicom.dcmread(path)
        dataset.Rows = dataset.Columns = 1024
        dataset.PixelData = bytes(2 << 20)
        dataset.save_as(path)


def test_of_what_is_there_only_headers_are_read_back(
    ingest: Ingest, site: StandIn, tmp_path: Path, kept: tuple[str, ...]
) -> None:
    """And one instance as a whole, as in each spot check."""
    enlarged(tree := plain(tmp_path / "tree"))
    assert ingest("upload", tree, *kept).code == 0
    for command in ("upload", "verify"):
        proof = ingest(command, tree, *kept).report["proof"]
        assert proof["read_back"] == 3
        assert 2 << 20 < proof["bytes"] < (2 << 20) + (3 << 17)
        assert [(told["instances"], told["why"]) for told in proof["skipped"]] == [(2, "only its header was compared")]
    deep = ingest("verify", tree, *kept, "--proof", "pixels").report["proof"]
    assert deep["bytes"] > 6 << 20


def test_a_longer_header_of_a_run_without_deidentify_is_read_to_its_end(
    ingest: Ingest, tmp_path: Path, kept: tuple[str, ...]
) -> None:
    enlarged(tree := plain(tmp_path / "tree"))
    path = max(path for path in tree.rglob("*") if path.is_file())
    before = tmp_path / "before" / path.relative_to(tree)
    dataset = pydicom.dcmread(path)
    dataset.private_block(0x0009, "ACME", create=True).add_new(1, "OB", bytes(1 << 20))
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientAddress", "PatientTelephoneNumbers"):
        setattr(dataset, keyword, "" if keyword != "PatientID" else PERSON.patient_id)
    before.parent.mkdir(parents=True)
    dataset.save_as(before)
    assert ingest("upload", tmp_path / "before").code == 0
    ended = ingest("upload", tree, *kept)
    assert (ended.code, "reidentified" in ended.kinds()) == (3, True)
    assert ended.report["deidentification"]["restored"]["PatientID"] == 1


def _private(dataset: pydicom.Dataset, sizes: Sequence[int]) -> None:
    for number, size in enumerate(sizes):
        dataset.private_block(0x0009, "ACME", create=True).add_new(number, "OB", b"\1" * size)


LONG: dict[str, Callable[[pydicom.Dataset], None]] = {
    "one value of 5 MB in front": lambda dataset: _private(dataset, [5 << 20]),
    "many values in front": lambda dataset: _private(dataset, [60_000] * 80),
    "one value of 17 MB in front": lambda dataset: _private(dataset, [17 << 20]),
}


def _two(tree: Path) -> Path:
    """A tree of two images."""
    max(path for path in plain(tree).rglob("*") if path.is_file()).unlink()
    return tree


def _lengthened(tree: Path, how: str) -> Path:
    for path in (path for path in tree.rglob("*") if path.is_file()):
        dataset = pydicom.dcmread(path)
        LONG[how](dataset)
        dataset.save_as(path)
    return tree


@pytest.mark.sampled(2)
@pytest.mark.parametrize("proof", ["spot", "pixels"])
@pytest.mark.parametrize("how", LONG)
def test_a_long_header_is_searched(ingest: Ingest, tmp_path: Path, kept: tuple[str, ...], how: str, proof: str) -> None:
    tree = _lengthened(_two(tmp_path / "tree"), how)
    assert ingest("upload", tree, "--proof", "listing").code == 0
    ended = ingest("verify", tree, *kept, "--proof", proof)
    assert (ended.code, "reidentified" in ended.kinds()) == (3, True), ended.out
    assert ended.report["deidentification"]["restored"]["PatientName"] == 2
    says_nobody(ended)


@pytest.mark.parametrize("proof", ["spot", "pixels"])
@pytest.mark.parametrize("most", [5 << 20, 100_000])
def test_a_header_that_cannot_be_searched_is_told(
    ingest: Ingest, tmp_path: Path, kept: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, most: int, proof: str
) -> None:
    """Here those of a run without --deidentify are longer than what is searched."""
    tree = _two(tmp_path / "tree")
    before = tmp_path / "before"
    shutil.copytree(tree, before)
    assert ingest("upload", _lengthened(before, "one value of 5 MB in front"), "--proof", "listing").code == 0
    monkeypatch.setattr(restored, "MOST_HEAD", most)
    ended = ingest("verify", tree, *kept, "--proof", proof)
    assert (ended.code, "not-read-back" in ended.kinds()) == (3, True), ended.out
    (told,) = (one["detail"] for one in ended.report["problems"] if one["kind"] == "not-read-back")
    assert "nobody has looked for what is removed in 2 objects" in told
    says_nobody(ended)


def test_a_sent_header_that_cannot_be_searched_is_told(
    ingest: Ingest, tmp_path: Path, kept: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though all is there as it was sent."""
    tree = _two(tmp_path / "tree")
    assert ingest("upload", tree, *kept).code == 0
    monkeypatch.setattr(restored, "MOST_HEAD", 100)
    ended = ingest("verify", tree, *kept)
    assert (ended.code, ended.kinds(), ended.totals["verified"]) == (3, ["not-read-back"], 2)


@pytest.mark.parametrize("earlier", ["names", "dates-kept"])
@pytest.mark.parametrize("first", [1, 2])
def test_what_another_profile_has_left(ingest: Ingest, site: StandIn, tmp_path: Path, earlier: str, first: int) -> None:
    """With one key, its copies have the names of those that follow, and are not sent again."""
    profile = tmp_path / "p.json"
    profile.write_text(json.dumps({"base": "basic", "rules": [{"keyword": "PatientName", "action": "K"}]}))
    tree = plain(tmp_path / "tree")
    files = sorted(path for path in tree.rglob("*") if path.is_file())
    for path in files[first:]:
        path.rename(tmp_path / path.name)
    kept = str(profile) if earlier == "names" else earlier
    assert ingest("upload", tree, *UP[:-1], kept).code == 0
    for path in files[first:]:
        (tmp_path / path.name).rename(path)
    ended = ingest("upload", tree, *UP)
    assert (ended.code, "reidentified" in ended.kinds()) == (3, True), ended.out
    assert set(ended.report["deidentification"]["restored"].values()) == {first}
    assert ingest("upload", tree, *UP, "--existing", "overwrite").code == 0
    assert not [path for path in files_of(site) if PERSON.birth.encode() in path.read_bytes()]


# Templates of a site's own, whose names do not tell instances.
TEMPLATES = ("${SOPInstanceUID}", "IM${InstanceNumber}", "${StudyInstanceUID}-${SeriesNumber}-${InstanceNumber}")


@pytest.mark.parametrize("destination", ["archive", "prearchive"])
@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("earlier", ["no profile", "names", "the same"])
def test_what_was_left_under_other_names(
    ingest: Ingest, site: StandIn, tmp_path: Path, kept: tuple[str, ...], earlier: str, template: str, destination: str
) -> None:
    """Its headers tell which instance each file is, so they are looked into, too."""
    site.settings.file_name_template = template
    profile = tmp_path / "p.json"
    profile.write_text(json.dumps({"base": "basic", "rules": [{"keyword": "PatientName", "action": "K"}]}))
    flags = {"no profile": (), "names": ("--deidentify", str(profile)), "the same": UP}[earlier]
    then = kept if earlier == "no profile" else UP
    tree = plain(tmp_path / "tree")
    for number, path in enumerate(sorted(path for path in tree.rglob("*") if path.is_file()), 1):
        dataset = pydicom.dcmread(path)
        dataset.InstanceNumber = number
        dataset.save_as(path)
    assert ingest("upload", tree, *flags, "--destination", destination).code == 0
    ended = ingest("upload", tree, *then, "--destination", destination)
    identified = [path for path in files_of(site) if leaks(path.read_bytes(), PERSON)]
    assert (ended.code, "reidentified" in ended.kinds()) == ((3, True) if identified else (0, False)), ended.out
    assert bool(identified) == (earlier != "the same" and (earlier, destination) != ("no profile", "prearchive"))
    assert ended.totals["counted"] == 3
    checked = ingest("verify", tree, *then, "--destination", destination)
    assert checked.code == (3 if identified else 0)
    says_nobody(ended)
    if identified:
        assert set(ended.report["deidentification"]["restored"].values()) == {3}
    if identified and destination == "archive":
        assert ingest("upload", tree, *then, "--existing", "overwrite").code == 0
        assert not [path for path in files_of(site) if leaks(path.read_bytes(), PERSON)]


@pytest.mark.parametrize("proof", ["spot", "pixels"])
@pytest.mark.parametrize("status", [403, 404, 500])
def test_what_a_run_without_deidentify_may_have_left_and_the_server_does_not_give(
    ingest: Ingest, site: StandIn, tmp_path: Path, kept: tuple[str, ...], status: int, proof: str
) -> None:
    tree = plain(tmp_path / "tree")
    assert ingest("upload", tree).code == 0
    site.faults.add(Fault("status", "GET .*/files/", status=status, times=None))
    for command in ("upload", "verify"):
        ended = ingest(command, tree, *kept, "--proof", proof)
        assert (ended.code, set(ended.kinds())) == (3, {"not-read-back"}), ended.out
        assert "may have stored 3 objects without --deidentify" in ended.out
    assert ingest("verify", tree, "--proof", "spot").code == 0, "without --deidentify nothing is removed"


def test_what_was_left_under_other_names_and_cannot_be_read(
    ingest: Ingest, site: StandIn, tmp_path: Path, kept: tuple[str, ...]
) -> None:
    site.settings.file_name_template = TEMPLATES[0]
    tree = plain(tmp_path / "tree")
    assert ingest("upload", tree).code == 0
    site.faults.add(Fault("status", "/scans/1/resources/", status=403, times=None))
    for command in ("upload", "verify"):
        ended = ingest(command, tree, *kept)
        assert (ended.code, ended.kinds(), ended.totals["counted"]) == (3, ["not-read-back"], 3)
        assert "3 instances under names that do not tell them" in ended.report["problems"][0]["detail"]
    assert ingest("verify", tree, *kept, "--proof", "listing").code == 0
    assert ingest("verify", tree).code == 0, "without --deidentify nothing is removed"


def test_a_file_that_its_header_tells_is_proven_to_the_pixel(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    site.settings.file_name_template = TEMPLATES[0]
    tree = plain(tmp_path / "tree")
    assert ingest("upload", tree, *UP).totals["counted"] == 3
    deep = ingest("verify", tree, *UP, "--proof", "pixels")
    assert (deep.code, deep.totals["verified"], deep.session("007_pre")["verdict"]) == (0, 3, "verified")
    (image,) = [p for p in files_of(site) if p.name.startswith("2.25.")][:1]
    image.write_bytes(image.read_bytes()[:-2] + b"\1\2")
    deep = ingest("verify", tree, *UP, "--proof", "pixels")
    assert (deep.code, deep.kinds(), deep.totals["verified"], deep.totals["failed"]) == (3, ["corrupt"], 2, 1)
