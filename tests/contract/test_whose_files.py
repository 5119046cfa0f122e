"""Which instance a stored file is, where its name does not tell, or tells it under other numbers."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.uid import UID

from tests.conftest import Ended, Ingest
from tests.dicom_trees import Series, make_session
from tests.standin import Fault, StandIn
from tests.standin.model import DEFAULT_TEMPLATE

# Names as other tools and other templates make them.
BY_NUMBER, BY_UID = "IM-${SeriesNumber}-${InstanceNumber}", "MR.${SOPInstanceUID}"
ARCHIVE, PREARCHIVE = "--destination=archive", "--destination=prearchive"
Copy = Callable[[Path, Path], object]


@pytest.fixture
def whole(tmp_path: Path) -> list[Path]:
    """Six instances of one series."""
    return make_session(tmp_path / "whole", (Series("T1_0001", 6),), "study")


def place(root: Path, paths: Iterable[Path], copy: Copy = shutil.copy) -> Path:
    folder = root / "S/E/T1_0001"
    folder.mkdir(parents=True)
    for path in paths:
        copy(path, folder / path.name)
    return root


def renumbered(keyword: str, by: int) -> Copy:
    def copy(path: Path, to: Path) -> None:
        dataset = pydicom.dcmread(path)
        setattr(dataset, keyword, int(dataset[keyword].value) + by)
        dataset.save_as(to)

    return copy


def stored_uids(site: StandIn) -> Counter[str]:
    archived = [path for one in site.sessions("DEMO") for path in one.files.values()]
    return uids_of([*archived, *(path for one in site.rows("DEMO") for path in one.files.values())])


def uids_of(paths: Iterable[Path]) -> Counter[str]:
    return Counter(str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in paths)


def other_tool(ingest: Ingest, site: StandIn, root: Path, template: str, destination: str) -> None:
    usual, site.settings.file_name_template = site.settings.file_name_template, template
    assert ingest("upload", root, destination).code == 0
    site.settings.file_name_template = usual


def judged(ended: Ended) -> tuple[int, str, int]:
    return ended.code, ended.session("S_E")["verdict"], ended.totals["bytes_sent"]


@pytest.mark.parametrize("template", [BY_NUMBER, BY_UID])
@pytest.mark.parametrize("overlap", [0, 2])
def test_other_instances_of_equal_number_are_not_the_planned_ones(
    ingest: Ingest, site: StandIn, tmp_path: Path, whole: list[Path], template: str, overlap: int
) -> None:
    """Another tool has stored one half of a series. The other half has as many files, and is not there."""
    other_tool(ingest, site, place(tmp_path / "a", whole[:3]), template, ARCHIVE)
    half = place(tmp_path / "b", whole[3 - overlap : 6 - overlap])
    ended = ingest("upload", half)
    assert (judged(ended), ended.kinds()) == ((3, "conflict", 0), ["sent-by-another-tool"])
    assert f"3 files of 3, {3 - overlap} of other instances" in ended.out
    checked = ingest("verify", half)
    assert (checked.code, checked.totals["missing"], checked.totals["counted"]) == (3, 3 - overlap, overlap)
    ended = ingest("upload", half, "--existing", "overwrite")
    assert ended.code == 0, ended.out
    assert stored_uids(site) == uids_of(whole[: 6 - overlap])


@pytest.mark.parametrize("prefix", ["", "MR."])
def test_the_uid_of_the_series_with_a_number_behind_it_is_no_instance(
    ingest: Ingest, site: StandIn, tmp_path: Path, prefix: str
) -> None:
    """Converters count instances from 0 in the UID and from 1 in the number."""
    made = make_session(tmp_path / "whole", (Series("T1_0001", 4),), "study")
    for number, path in enumerate(made):
        dataset = pydicom.dcmread(path)
        dataset.SOPInstanceUID = UID(f"{dataset.SeriesInstanceUID[:50]}.{number}")
        dataset.SeriesInstanceUID = UID(dataset.SeriesInstanceUID[:50])
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.InstanceNumber = number + 1
        dataset.save_as(path)
    template = f"{prefix}${{SeriesInstanceUID}}.${{InstanceNumber}}"
    other_tool(ingest, site, place(tmp_path / "a", made[:3]), template, ARCHIVE)
    half = place(tmp_path / "b", made[1:])
    assert judged(ingest("upload", half)) == (3, "conflict", 0)
    assert ingest("verify", half).code == 3


@pytest.mark.parametrize("destination", [ARCHIVE, PREARCHIVE])
@pytest.mark.parametrize("template", [BY_NUMBER, BY_UID])
def test_a_site_with_names_of_its_own_takes_the_other_half(
    ingest: Ingest, site: StandIn, tmp_path: Path, whole: list[Path], template: str, destination: str
) -> None:
    site.user("up").all_data = True  # so that the program knows of the template
    site.settings.file_name_template = template
    for name, half in (("a", whole[:3]), ("b", whole[3:])):
        root = place(tmp_path / name, half)
        ended = ingest("upload", root, destination)
        assert (ended.code, ended.totals["counted"], ended.totals["bytes_sent"] > 0) == (0, 3, True), ended.out
    assert stored_uids(site) == uids_of(whole)
    for name in "ab":
        for command in ("upload", "verify"):
            ended = ingest(command, tmp_path / name, destination)
            assert (ended.code, ended.totals["counted"], ended.totals["bytes_sent"]) == (0, 3, 0), ended.out


@pytest.mark.parametrize("template", [BY_NUMBER, BY_UID])
def test_the_same_instances_count_and_are_looked_into_once(
    ingest: Ingest, site: StandIn, tmp_path: Path, whole: list[Path], template: str
) -> None:
    """Also beside more of their series."""
    other_tool(ingest, site, place(tmp_path / "a", whole), template, ARCHIVE)
    for name, part in (("b", whole), ("c", whole[1:4])):
        begin = len(site.requests)
        assert judged(ingest("upload", place(tmp_path / name, part))) == (0, "counted", 0)
        read = [one.path for one in site.requests[begin:] if "/files/" in one.path]
        assert len(read) == len(set(read)) == 6


@pytest.mark.parametrize("status", [403, 404])
def test_files_that_cannot_be_read_are_counted(
    ingest: Ingest, site: StandIn, tmp_path: Path, whole: list[Path], status: int
) -> None:
    other_tool(ingest, site, place(tmp_path / "a", whole[:3]), BY_NUMBER, ARCHIVE)
    site.faults.add(Fault("status", match="GET .*/files/", status=status, times=99))
    assert judged(ingest("upload", tmp_path / "a", "--workers", "1")) == (0, "counted", 0)
    if status == 403:
        assert sum("/files/" in one.path for one in site.requests) == 1


@pytest.mark.parametrize("broken", ["zeros", "text", "404"])
@pytest.mark.parametrize("others", [0, 2])
def test_a_file_that_is_given_and_holds_no_instance_counts_as_none(
    ingest: Ingest, site: StandIn, tmp_path: Path, whole: list[Path], broken: str, others: int
) -> None:
    """A crash or a full disk leaves zeros. The same goes for one of several files that the server has lost."""
    other_tool(ingest, site, place(tmp_path / "a", whole[:3]), BY_NUMBER, ARCHIVE)
    for path in list(site.sessions("DEMO")[0].files.values())[others:]:
        size = path.stat().st_size
        path.write_bytes(bytes(size) if broken == "zeros" else b"x" * size)
        if broken == "404" and others:
            site.faults.add(Fault("status", match=f"GET .*/files/{path.name}", status=404, times=99))
    ended = ingest("upload", place(tmp_path / "b", [*whole[:others], *whole[3 + others :]]))
    assert (ended.code, ended.totals["counted"], ended.kinds()) == (3, 0, ["sent-by-another-tool"]), ended.out
    checked = ingest("verify", tmp_path / "b")
    assert (checked.code, checked.totals["missing"]) == (3, 3 - others), checked.out


@pytest.mark.parametrize(
    "fault",
    [{"kind": "status", "status": 503}, {"kind": "status", "status": 500}, {"kind": "empty"}, {"kind": "reset"}],
)
def test_trouble_with_the_server_is_no_reason_to_count(
    ingest: Ingest, site: StandIn, tmp_path: Path, whole: list[Path], fault: dict[str, Any]
) -> None:
    other_tool(ingest, site, place(tmp_path / "a", whole[:3]), BY_NUMBER, ARCHIVE)
    site.faults.add(Fault(match="GET .*/files/", times=None, **fault))
    ended = ingest("upload", place(tmp_path / "b", whole[3:]), "--retry-budget", "2")
    assert (ended.code in (3, 5), ended.totals["counted"]) == (True, 0), ended.out


@pytest.mark.parametrize("way", [ARCHIVE, PREARCHIVE, "--transport=gradual"])
@pytest.mark.parametrize("first", [ARCHIVE, PREARCHIVE])
@pytest.mark.parametrize("template", [BY_NUMBER, BY_UID])
def test_what_an_earlier_run_has_sent_does_not_count_for_what_the_server_has_lost(
    ingest: Ingest, site: StandIn, tmp_path: Path, whole: list[Path], template: str, first: str, way: str
) -> None:
    """Its instances lie in the same series, and are as many."""
    site.settings.file_name_template = template
    assert ingest("upload", place(tmp_path / "a", whole[:2]), first).code == 0
    for number, path in enumerate(whole[2:4], 3):
        name = f"-{number}.dcm" if template == BY_NUMBER else pydicom.dcmread(path).SOPInstanceUID
        site.faults.add(Fault("lose", name=name, times=None))
    ended = ingest("upload", place(tmp_path / "b", whole[2:4]), way)
    assert ended.code == 3, ended.out
    assert (ended.totals["verified"], ended.totals["counted"]) == (0, 0)


@pytest.mark.parametrize("template", [BY_NUMBER, BY_UID])
def test_a_series_without_number_grows_out_of_the_prearchive(
    ingest: Ingest, site: StandIn, tmp_path: Path, template: str
) -> None:
    """A build has moved the first half, so the other one follows once that is archived."""
    site.settings.file_name_template = template
    numberless = Series("T1_0001", 2, tags={"SeriesNumber": None})
    made = make_session(tmp_path / "made", (numberless, Series("T2_0002", 1)), "study")
    assert ingest("upload", place(tmp_path / "a", made[:1]), PREARCHIVE, "--allow-mixed-patients").code == 0
    root = place(tmp_path / "b", made[1:2])
    shutil.copytree(made[2].parent, root / "S/E/T2_0002")
    ended = ingest("upload", root, "--allow-mixed-patients")
    assert (ended.code, ended.totals["counted"]) == (0, 2), ended.out
    assert stored_uids(site) == uids_of(made)


def test_the_first_trouble_is_enough(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """An archive that hangs would keep a run waiting for each file."""
    many = make_session(tmp_path / "many", (Series("T1_0001", 40),), "study")
    other_tool(ingest, site, place(tmp_path / "a", many), BY_NUMBER, ARCHIVE)
    site.faults.add(Fault("status", match="GET .*/files/", status=503, times=None))
    ended = ingest("verify", tmp_path / "a", "--retry-budget", "0", "--workers", "2")
    assert ended.code in (3, 5), ended.out
    assert len({one.path for one in site.requests if "/files/" in one.path}) < 10


def test_who_wants_no_look_gets_the_number(ingest: Ingest, site: StandIn, tmp_path: Path, whole: list[Path]) -> None:
    other_tool(ingest, site, place(tmp_path / "a", whole[:3]), BY_NUMBER, ARCHIVE)
    assert judged(ingest("upload", place(tmp_path / "b", whole[3:]), "--proof", "listing")) == (0, "counted", 0)
    assert not any("/files/" in one.path for one in site.requests)


@pytest.mark.parametrize("destination", [ARCHIVE, PREARCHIVE])
@pytest.mark.parametrize("keyword", ["InstanceNumber", "SeriesNumber"])
def test_an_instance_that_comes_again_under_another_number_is_there(
    ingest: Ingest, site: StandIn, tmp_path: Path, whole: list[Path], keyword: str, destination: str
) -> None:
    """An export numbers a study anew. The names on the server have the old numbers, and still tell the instance."""
    assert ingest("upload", place(tmp_path / "a", whole), destination).code == 0
    again = place(tmp_path / "b", whole[:2], renumbered(keyword, 1000))  # which changes the length, too
    for command in ("upload", "verify"):
        ended = ingest(command, again, destination)
        assert (ended.code, ended.totals["verified"], ended.totals["bytes_sent"]) == (0, 2, 0), ended.out
        assert ended.report["proof"]["read_back"] > 0
    assert stored_uids(site) == uids_of(whole)


@pytest.mark.parametrize("destination", [ARCHIVE, PREARCHIVE])
@pytest.mark.parametrize("keyword", ["InstanceNumber", "SeriesNumber"])
def test_what_a_site_with_names_of_its_own_has_is_not_sent_beside_it(
    ingest: Ingest, site: StandIn, tmp_path: Path, whole: list[Path], keyword: str, destination: str
) -> None:
    """Some of a series come again under other numbers, together with new ones."""
    site.user("up").all_data = True
    site.settings.file_name_template = BY_NUMBER
    assert ingest("upload", place(tmp_path / "a", whole[:3]), destination).code == 0
    again = place(tmp_path / "b", whole[1:5], renumbered(keyword, 10))
    ended = ingest("upload", again, destination)
    if (keyword, destination) == ("SeriesNumber", ARCHIVE):  # XNAT merges no series under another number
        assert (ended.code, ended.kinds(), ended.totals["bytes_sent"]) == (3, ["same-number"], 0)
        return
    assert (ended.code, ended.totals["counted"]) == (0, 4), ended.out
    assert stored_uids(site) == uids_of(whole[:5])
    assert ingest("verify", again, destination).code == 0


@pytest.mark.parametrize("keyword", ["InstanceNumber", "SeriesNumber"])
def test_copies_under_other_numbers_are_archived_as_they_are(
    ingest: Ingest, site: StandIn, tmp_path: Path, whole: list[Path], keyword: str
) -> None:
    """An earlier run has left them in the prearchive. Their lengths differ, since their numbers do."""
    assert ingest("upload", place(tmp_path / "a", whole[:2]), PREARCHIVE).code == 0
    ended = ingest("upload", place(tmp_path / "b", whole[:2], renumbered(keyword, 1000)), ARCHIVE)
    assert (ended.code, ended.totals["verified"], ended.totals["bytes_sent"]) == (0, 2, 0), ended.out
    assert (stored_uids(site), site.rows("DEMO")) == (uids_of(whole[:2]), [])


@pytest.mark.parametrize("destination", [ARCHIVE, PREARCHIVE])
@pytest.mark.parametrize("number", [2, 6])
def test_a_cut_copy_under_another_number_is_not_there(
    ingest: Ingest, site: StandIn, tmp_path: Path, whole: list[Path], number: int, destination: str
) -> None:
    """An earlier run was broken off in a file, near its end: without a few pixels it is still longer than all pixels.
    XNAT would keep it beside a new copy."""
    assert ingest("upload", place(tmp_path / "a", whole[:number]), PREARCHIVE).code == 0
    (row,) = site.rows("DEMO")
    last = max(row.files.values())
    last.write_bytes(last.read_bytes()[:-8])
    again = place(tmp_path / "b", whole[:number], renumbered("InstanceNumber", 1000))
    ended = ingest("upload", again, destination)
    assert (ended.code, ended.kinds(), ended.totals["bytes_sent"]) == (3, ["stale-row"], 0), ended.out
    assert "1 of these instances under other numbers and in another length" in ended.out
    assert not site.sessions("DEMO")


@pytest.mark.parametrize("keyword", ["InstanceNumber", "SeriesNumber"])
def test_a_new_copy_under_another_number_does_not_go_beside_the_old_one(
    ingest: Ingest, site: StandIn, tmp_path: Path, whole: list[Path], keyword: str
) -> None:
    """XNAT would keep both in the prearchive session, and then refuse to archive it."""
    assert ingest("upload", place(tmp_path / "a", whole), PREARCHIVE).code == 0
    again = place(tmp_path / "b", whole, renumbered(keyword, 10))
    ended = ingest("upload", again, PREARCHIVE, "--existing", "overwrite")
    assert (judged(ended), ended.kinds()) == ((3, "failed", 0), ["stale-row"])
    assert stored_uids(site) == uids_of(whole)


@pytest.mark.parametrize("destination", [ARCHIVE, PREARCHIVE])
@pytest.mark.parametrize("template", [BY_NUMBER, "${StudyID}-${InstanceNumber}"])
@pytest.mark.parametrize("number", [2, 3])
def test_names_that_repeat_replace_nothing(
    ingest: Ingest, site: StandIn, tmp_path: Path, whole: list[Path], template: str, destination: str, number: int
) -> None:
    """A second acquisition counts its instances from 1 again. Under the site's names it would replace the first."""
    site.user("up").all_data = True
    site.settings.file_name_template = template
    assert ingest("upload", place(tmp_path / "a", whole[:3]), destination).code == 0
    again = place(tmp_path / "b", whole[3 : 3 + number], renumbered("InstanceNumber", -3))
    flags = [("--existing", "resume"), ("--existing", "overwrite")]
    flags += [("--proof", "listing")] if destination == ARCHIVE and number == 2 and template == BY_NUMBER else []
    for some in flags:
        ended = ingest("upload", again, destination, *some)
        assert (ended.code, ended.kinds(), ended.totals["bytes_sent"]) == (3, ["name-collision"], 0), ended.out
    assert stored_uids(site) == uids_of(whole[:3])
    assert ingest("upload", tmp_path / "a", destination).code == 0


@pytest.mark.parametrize("destination", [ARCHIVE, "--destination=direct-archive", "--transport=gradual"])
@pytest.mark.parametrize("template", [BY_NUMBER, "${StudyID}-${InstanceNumber}"])
@pytest.mark.parametrize(("part", "by"), [((0, 3), 1), ((3, 6), -3), ((0, 6), 1)])
def test_an_instance_under_another_number_replaces_no_other_one(
    ingest: Ingest,
    site: StandIn,
    tmp_path: Path,
    whole: list[Path],
    template: str,
    destination: str,
    part: Any,
    by: int,
) -> None:
    """It is on the server, but its new name belongs to another instance. With its own number it may be replaced."""
    site.user("up").all_data = True
    site.settings.file_name_template = template
    assert ingest("upload", place(tmp_path / "a", whole), destination).code == 0
    again = place(tmp_path / "b", whole[slice(*part)], renumbered("InstanceNumber", by))
    ended = ingest("upload", again, destination, "--existing", "overwrite")
    assert (ended.code, ended.kinds(), ended.totals["bytes_sent"]) == (3, ["name-collision"], 0), ended.out
    assert stored_uids(site) == uids_of(whole)
    same = place(tmp_path / "c", whole[slice(*part)])
    ended = ingest("upload", same, destination, "--existing", "overwrite")
    assert (ended.code, ended.totals["bytes_sent"] > 0) == (0, True), ended.out
    assert stored_uids(site) == uids_of(whole)


@pytest.mark.parametrize("destination", [ARCHIVE, PREARCHIVE])
def test_names_may_repeat_from_one_scan_to_the_next(
    ingest: Ingest, site: StandIn, tmp_path: Path, destination: str
) -> None:
    site.user("up").all_data = True
    site.settings.file_name_template = "IM${InstanceNumber}"
    root = tmp_path / "tree"
    for number in (1, 2):
        make_session(root / "S/E", (Series(f"T{number}", 3, number=number),), "study")
        ended = ingest("upload", root, destination)
        assert (ended.code, ended.totals["counted"]) == (0, 3 * number), ended.out


# Two UIDs with one hash, whatever the SOP class.
ALIKE = tuple(f"1.2.826.0.1.3680043.8.498.{last}" for last in (7016313247553159388, 8274235421223717014))


@pytest.mark.parametrize("proof", ["listing", "spot"])
@pytest.mark.parametrize("destination", [ARCHIVE, PREARCHIVE])
def test_another_instance_with_the_same_hash_is_not_there(
    ingest: Ingest, site: StandIn, tmp_path: Path, whole: list[Path], destination: str, proof: str
) -> None:
    for name, path, uid in zip("ab", whole, ALIKE, strict=False):
        dataset = pydicom.dcmread(path)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(uid)
        dataset.save_as(path)
        ended = ingest("upload", place(tmp_path / name, [path]), destination, "--proof", proof)
        assert (ended.code, ended.totals["verified"], ended.totals["bytes_sent"] > 0) == (0, 1, True), ended.out
    assert stored_uids(site) == Counter(ALIKE)


def moved(*, instance_by: int = 0) -> Copy:
    """As a PACS does that gives instances a series of their own: they keep their SOPInstanceUIDs."""

    def copy(path: Path, to: Path) -> None:
        dataset = pydicom.dcmread(path)
        dataset.SeriesInstanceUID, dataset.SeriesNumber = UID("1.2.3.4.5"), 5
        dataset.InstanceNumber = int(dataset.InstanceNumber) + instance_by
        dataset.save_as(to)

    return copy


@pytest.mark.parametrize("again", [ARCHIVE, PREARCHIVE])
@pytest.mark.parametrize("before", [ARCHIVE, PREARCHIVE])
@pytest.mark.parametrize(("number", "instance_by"), [(2, 0), (6, 0), (6, 7)])
def test_instances_that_come_again_in_another_series_are_not_stored_twice(
    ingest: Ingest,
    site: StandIn,
    tmp_path: Path,
    whole: list[Path],
    before: str,
    again: str,
    number: int,
    instance_by: int,
) -> None:
    assert ingest("upload", place(tmp_path / "a", whole), before).code == 0
    root = place(tmp_path / "b", whole[number:])
    for path in whole[:number]:
        moved(instance_by=instance_by)(path, root / "S/E/T1_0001" / path.name)
    for existing in ("resume", "overwrite"):
        ended = ingest("upload", root, again, "--existing", existing)
        assert (ended.code, ended.kinds(), ended.totals["bytes_sent"]) == (3, ["moved-series"], 0), ended.out
        assert f"{number} of its instances are on the server already, in another series" in ended.out
    assert stored_uids(site) == uids_of(whole)


def test_once_the_old_copies_are_deleted_the_new_series_is_sent(
    ingest: Ingest, site: StandIn, tmp_path: Path, whole: list[Path]
) -> None:
    assert ingest("upload", place(tmp_path / "a", whole)).code == 0
    root = place(tmp_path / "b", whole, moved())
    checked = ingest("verify", root)
    assert (checked.code, checked.totals["missing"]) == (3, 6)
    assert "not in its series on the server, but in scan 1" in checked.out
    (session,) = site.sessions("DEMO")
    session.scans.pop("1")
    assert ingest("upload", root).code == 0
    assert stored_uids(site) == uids_of(whole)


def test_copies_in_two_series_are_named(ingest: Ingest, site: StandIn, tmp_path: Path, whole: list[Path]) -> None:
    """As earlier releases of this program have stored them."""
    assert ingest("upload", place(tmp_path / "a", whole)).code == 0
    assert ingest("upload", place(tmp_path / "b", whole, moved()), "--proof", "listing").code == 0
    assert stored_uids(site) == uids_of(whole * 2)
    ended = ingest("upload", tmp_path / "a")
    assert (ended.code, ended.kinds()) == (0, ["doubled"])
    assert "6 instances are stored twice" in ended.out


def test_another_instance_with_the_same_hash_in_another_series_is_another(
    ingest: Ingest, site: StandIn, tmp_path: Path, whole: list[Path]
) -> None:
    for name, path, uid in zip("ab", whole, ALIKE, strict=False):
        dataset = pydicom.dcmread(path)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(uid)
        dataset.save_as(path)
        copy = moved() if name == "b" else shutil.copy
        assert ingest("upload", place(tmp_path / name, [path], copy)).code == 0
    assert stored_uids(site) == Counter(ALIKE)


def both_series(tmp_path: Path, whole: list[Path], *, with_first: bool) -> Path:
    """Six more instances of the same SeriesNumber in a series of their own, with those of the first or without."""
    root = tmp_path / "both"
    for path in make_session(tmp_path / "second", (Series("T2_0002", 6),), "study"):
        dataset = pydicom.dcmread(path)
        dataset.SeriesNumber = pydicom.dcmread(whole[0]).SeriesNumber
        (root / "S/E/T2").mkdir(parents=True, exist_ok=True)
        dataset.save_as(root / "S/E/T2" / path.name)
    return place(root, whole) if with_first else root


@pytest.mark.parametrize("proof", ["spot", "listing"])
@pytest.mark.parametrize("with_first", [True, False])
def test_what_lies_in_the_scan_of_another_series_is_not_there(
    ingest: Ingest, site: StandIn, tmp_path: Path, whole: list[Path], with_first: bool, proof: str
) -> None:
    """The project's script has XNAT count the scans anew: both series lie in the one that was there before."""
    site.project("DEMO").anon_script = "name"
    assert ingest("upload", place(tmp_path / "a", whole)).code == 0
    root = both_series(tmp_path, whole, with_first=with_first)
    ended = ingest("upload", root, "--proof", proof)
    assert len(site.sessions("DEMO")[0].scans) == 1
    if proof == "listing" and not with_first:
        assert ended.code == 0  # neither names nor the tree tell whose scan it is
        return
    assert (ended.code, ended.totals["missing"]) == (3, 6), ended.out
    assert "not in its series on the server, but in scan 1" in ended.out
    again = ingest("upload", root, "--proof", proof)
    assert (again.code, again.kinds(), again.totals["bytes_sent"]) == (3, ["moved-series"], 0), again.out


@pytest.mark.parametrize("gives_files", [True, False])
def test_a_script_that_changes_the_uid_of_a_series_moves_nothing(
    ingest: Ingest, site: StandIn, tmp_path: Path, whole: list[Path], gives_files: bool
) -> None:
    """The scan has another UID than was sent, and so have its files. Only half of them are in the tree now."""
    site.project("DEMO").anon_script = "uids"
    assert ingest("upload", place(tmp_path / "a", whole)).code == 0
    if not gives_files:
        site.faults.add(Fault("status", match="GET .*/files/", status=404, times=None))
    ended = ingest("upload", place(tmp_path / "b", whole[3:]))
    assert (ended.code, ended.totals["verified"], ended.totals["already_there"]) == (0, 3, 3), ended.out


def test_two_copies_under_two_numbers_are_named(
    ingest: Ingest, site: StandIn, tmp_path: Path, whole: list[Path]
) -> None:
    assert ingest("upload", place(tmp_path / "a", whole)).code == 0
    (session,) = site.sessions("DEMO")
    (scan,) = session.scans.values()
    name, path = next(iter(scan.files.items()))
    study, series, number, last = name.split("-")
    other = f"{study}-{series}-{int(number) + 7}-{last}"
    scan.files[other] = Path(shutil.copy(path, path.with_name(other)))
    ended = ingest("upload", tmp_path / "a")
    assert (ended.code, ended.kinds()) == (0, ["doubled"])
    assert "1 instances are stored twice" in ended.out


def test_two_copies_in_the_prearchive_are_named(
    ingest: Ingest, site: StandIn, tmp_path: Path, whole: list[Path]
) -> None:
    assert ingest("upload", place(tmp_path / "a", whole), PREARCHIVE).code == 0
    (row,) = site.rows("DEMO")
    name, path = next(iter(row.files.items()))
    study, series, number, last = name.rsplit("/")[-1].split("-")
    path.with_name(f"{study}-{series}-{int(number) + 7}-{last}").write_bytes(path.read_bytes())
    for command in ("upload", "verify"):
        ended = ingest(command, tmp_path / "a", PREARCHIVE)
        print(ended.out)
        assert (ended.code, ended.kinds()) == (0, ["doubled"])
        assert "1 instances are stored twice" in ended.out


def test_what_this_run_has_replaced_is_read_again(
    ingest: Ingest, site: StandIn, tmp_path: Path, whole: list[Path]
) -> None:
    """The site's names repeat, and its template is not known here. The new files have the address and length of the old
    ones."""
    site.faults.add(Fault("status", match="dicomFileNameTemplate", status=403, times=None))
    site.settings.file_name_template = BY_NUMBER
    assert ingest("upload", place(tmp_path / "a", whole[:3]), ARCHIVE).code == 0
    again = place(tmp_path / "b", whole[3:], renumbered("InstanceNumber", -3))
    ended = ingest("upload", again, ARCHIVE, "--existing", "overwrite")
    assert (ended.code, ended.totals["counted"]) == (0, 3), ended.out
    assert stored_uids(site) == uids_of(whole[3:])


def test_headers_that_the_server_does_not_give_are_asked_for_once(
    ingest: Ingest, site: StandIn, tmp_path: Path, whole: list[Path]
) -> None:
    """Two of three instances that are there come again, with a new one."""
    site.user("up").all_data = True
    site.settings.file_name_template = BY_UID
    assert ingest("upload", place(tmp_path / "a", whole[:3]), ARCHIVE).code == 0
    site.faults.add(Fault("status", match="/files/", status=404, times=None))
    begin = len(site.requests)
    ended = ingest("upload", place(tmp_path / "b", whole[1:4]), ARCHIVE, "--existing", "overwrite")
    asked = Counter(one.path for one in site.requests[begin:] if one.method == "GET" and "/files/" in one.path)
    assert (ended.code, max(asked.values())) == (3, 1), (ended.out, asked)


# A template that tells instances, as the advice on `name-collision` asks for one, and whose names end as default ones.
BY_HASH = "${SeriesNumber}-${InstanceNumber}-${HashSOPClassUIDWithSOPInstanceUID}"


@pytest.mark.wide
@pytest.mark.parametrize("first", [ARCHIVE, PREARCHIVE])
@pytest.mark.parametrize(
    "names", [(DEFAULT_TEMPLATE, BY_HASH), (DEFAULT_TEMPLATE, BY_HASH, DEFAULT_TEMPLATE), (BY_UID, BY_HASH)]
)
@pytest.mark.parametrize("series", [Series("T1_0001", 6), Series("SR_0001", 6, "test-SR.dcm")], ids=["MR", "SR"])
def test_a_series_grows_after_the_site_has_changed_its_names(
    ingest: Ingest, site: StandIn, tmp_path: Path, names: Sequence[str], first: str, series: Series
) -> None:
    made = make_session(tmp_path / "made", (series,), "study")
    for day, template in enumerate(names):
        site.settings.file_name_template = template
        there = made[: 2 * day + 2]
        root = place(tmp_path / str(day), there)
        if not day:
            assert ingest("upload", root, first).code == 0
            continue
        for sent in (True, False):
            ended = ingest("upload", root)
            assert (ended.code, bool(ended.totals["bytes_sent"])) == (0, sent), ended.out
            by_default = 2 * names[: day + 1].count(DEFAULT_TEMPLATE)
            assert (ended.totals["verified"], ended.totals["counted"]) == (by_default, len(there) - by_default)
            assert stored_uids(site) == uids_of(there)
        assert ingest("verify", root).code == 0


def test_what_such_names_lack_is_missing(ingest: Ingest, site: StandIn, tmp_path: Path, whole: list[Path]) -> None:
    """The headers tell which of them are there."""
    assert ingest("upload", place(tmp_path / "a", whole[:2])).code == 0
    site.settings.file_name_template = BY_HASH
    site.faults.add(Fault("lose", name="1-4-", times=None))
    root = place(tmp_path / "b", whole)
    ended = ingest("upload", root)
    assert (ended.code, ended.totals["verified"], ended.totals["counted"], ended.totals["missing"]) == (3, 2, 3, 1)
    site.faults.clear()
    assert ingest("upload", root).code == 0
    assert stored_uids(site) == uids_of(whole)
