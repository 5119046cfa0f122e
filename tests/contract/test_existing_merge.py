"""Merges keep the session's type; rows that another run is sending into are left alone until it has ended."""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.uid import UID, MRImageStorage

from tests.conftest import Ingest, stored
from tests.contract.test_existing_prearchive import MODES, OTHER_NAMES, OURS, PART, SR, T1, Other, whole
from tests.dicom_trees import CT, Series, make_series, make_session
from tests.dicom_trees import uid as uid_of
from tests.standin import Fault, StandIn
from tests.standin.samples import PARAMS, TAR, tar
from xnat_ingest.cli import main
from xnat_ingest.core.stored_name import uid_hash
from xnat_ingest.delivery.sending import Sending
from xnat_ingest.xnat import prearchive

CAPTURE = Series("SC_0002", 2, "SC_rgb_small_odd.dcm")
PET = Series("PET_0001", 3, CT, tags={"Modality": "PT"})


@pytest.fixture
def other(site: StandIn) -> Iterator[Other]:
    sender = Other(site)
    yield sender
    sender.client.close()


@pytest.mark.wide
@pytest.mark.parametrize(
    ("first", "second", "xsi_type"),
    [(T1, SR, "xnat:mrSessionData"), (PET, Series("CT_0002", 2, CT), "xnat:petSessionData")],
    ids=["SR to MR", "CT to PET"],
)
@pytest.mark.parametrize("mode", ["resume", "overwrite"])
def test_merge_keeps_the_type_of_the_session(
    ingest: Ingest, site: StandIn, tmp_path: Path, first: Series, second: Series, xsi_type: str, mode: str
) -> None:
    """A series that alone would make another type of session takes an instance of the leading modality along."""
    folder = tmp_path / "t/S/E"
    paths = make_series(folder, first, "study", 1)
    assert ingest("upload", tmp_path / "t").code == 0
    more = make_series(folder, second, "study", 2)
    ended = ingest("upload", tmp_path / "t", "--existing", mode)
    assert ended.code == 0, ended.report["problems"]
    assert stored(site, "DEMO", "S", "S_E").xsi_type == xsi_type
    whole(site, paths + more)
    company = paths if mode == "overwrite" else paths[:1]
    assert ended.totals["bytes_sent"] == sum(path.stat().st_size for path in [*company, *more])


def test_merge_into_a_session_under_other_names_keeps_its_type_or_is_refused(
    ingest: Ingest, site: StandIn, tmp_path: Path
) -> None:
    """Where no instance of the leading modality can go along, nothing is sent; no row is left in CONFLICT."""
    template = site.settings.file_name_template
    site.settings.file_name_template = OTHER_NAMES
    folder = tmp_path / "t/S/E"
    paths = make_series(folder, T1, "study", 1)
    assert ingest("upload", tmp_path / "t").code == 0
    site.settings.file_name_template = template
    more = make_series(folder, SR, "study", 2)
    ended = ingest("upload", tmp_path / "t")
    assert site.rows("DEMO") == [], ended.out
    assert stored(site, "DEMO", "S", "S_E").xsi_type == "xnat:mrSessionData"
    if ended.code:
        assert (ended.session("S_E")["verdict"], ended.totals["bytes_sent"]) == ("conflict", 0)
    else:
        whole(site, paths + more)


def renumber(paths: Iterable[Path], keyword: str) -> None:
    """As an export does that numbers a study anew."""
    for path in paths:
        dataset = pydicom.dcmread(path)
        setattr(dataset, keyword, int(dataset[keyword].value) + 10)
        dataset.save_as(path)


@pytest.mark.parametrize("mode", ["resume", "overwrite"])
@pytest.mark.parametrize("kept", [0, 1])
@pytest.mark.parametrize("more", [SR, CAPTURE], ids=["SR", "SC"])
def test_an_instance_that_was_numbered_anew_keeps_the_type_of_the_session(
    ingest: Ingest, site: StandIn, tmp_path: Path, more: Series, kept: int, mode: str
) -> None:
    """It replaces the archived file, which has its SOPInstanceUID. One that kept its number is taken where there is."""
    folder = tmp_path / "t/S/E"
    paths = make_series(folder, T1, "study", 1)
    assert ingest("upload", tmp_path / "t").code == 0
    renumber(paths[: len(paths) - kept], "InstanceNumber")
    new = make_series(folder, more, "study", 2)
    ended = ingest("upload", tmp_path / "t", "--existing", mode)
    assert (ended.code, ended.kinds()) == (0, []), ended.out
    company = paths if mode == "overwrite" else paths[-1:] if kept else paths[:1]
    assert ended.totals["bytes_sent"] == sum(path.stat().st_size for path in [*company, *new])
    session = stored(site, "DEMO", "S", "S_E")
    assert session.xsi_type == "xnat:mrSessionData"
    on_disk = Counter(str(pydicom.dcmread(path).SOPInstanceUID) for path in session.directory.rglob("*.dcm"))
    assert on_disk == Counter(str(pydicom.dcmread(path).SOPInstanceUID) for path in [*paths, *new])
    for command in ("upload", "verify"):
        again = ingest(command, tmp_path / "t")
        assert (again.code, again.kinds(), again.totals["bytes_sent"]) == (0, [], 0), again.out


@pytest.mark.parametrize("mode", ["resume", "overwrite"])
def test_an_instance_of_another_series_number_cannot_keep_the_type_of_the_session(
    ingest: Ingest, site: StandIn, tmp_path: Path, mode: str
) -> None:
    """It would go into a scan of its own. One that has its old number can, as the advice says."""
    folder = tmp_path / "t/S/E"
    paths = make_series(folder, T1, "study", 1)
    assert ingest("upload", tmp_path / "t").code == 0
    old = [path.read_bytes() for path in paths]
    renumber(paths, "SeriesNumber")
    new = make_series(folder, SR, "study", 2)
    ended = ingest("upload", tmp_path / "t", "--existing", mode)
    assert (ended.code, ended.kinds(), ended.totals["bytes_sent"]) == (3, ["same-number"], 0), ended.out
    assert "with the SeriesNumber that" in ended.out
    assert site.rows("DEMO") == []
    for path, raw in zip(paths, old, strict=True):
        path.write_bytes(raw)
    assert ingest("upload", tmp_path / "t", "--existing", mode).code == 0
    whole(site, paths + new)


def test_a_sibling_that_was_numbered_anew_goes_along(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """Two archived series share their SeriesNumber, and one of them grows."""
    folder = tmp_path / "t/S/E"
    paths = [*make_series(folder, T1, "study", 1), *make_series(folder, Series("T2_0002", 4), "study", 1)]
    last = paths.pop()
    late = last.read_bytes()
    last.unlink()
    assert ingest("upload", tmp_path / "t").code == 0
    renumber(paths, "InstanceNumber")
    last.write_bytes(late)
    ended = ingest("upload", tmp_path / "t")
    assert (ended.code, ended.kinds(), ended.totals["verified"]) == (0, [], 8), ended.out
    session = stored(site, "DEMO", "S", "S_E")
    on_disk = Counter(str(pydicom.dcmread(path).SOPInstanceUID) for path in session.directory.rglob("*.dcm"))
    assert on_disk == Counter(str(pydicom.dcmread(path).SOPInstanceUID) for path in [*paths, last])


@pytest.mark.wide
def number_anew(paths: Iterable[Path], number: int) -> None:
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.SeriesNumber = number
        dataset.save_as(path)


def scans_of(site: StandIn) -> dict[str, set[str]]:
    """SeriesDescription -> the scans that its files lie in."""
    found: dict[str, set[str]] = {}
    for scan in site.sessions("DEMO")[0].scans.values():
        for path in scan.files.values():
            name = str(pydicom.dcmread(path, stop_before_pixels=True).SeriesDescription)
            found.setdefault(name, set()).add(scan.id)
    return found


# Three series that were archived under the numbers 1, 2 and 3, and the numbers that they come under now.
ANEW = {"swapped": {1: 2, 2: 1}, "all moved on": {1: 2, 2: 3, 3: 1}, "one is gone": {2: 1, 3: 2}}


@pytest.mark.parametrize("mode", ["resume", "overwrite"])
@pytest.mark.parametrize("anew", ANEW.values(), ids=ANEW)
def test_series_that_have_each_others_numbers_now_are_not_mixed_up(
    ingest: Ingest, site: StandIn, tmp_path: Path, anew: dict[int, int], mode: str
) -> None:
    """XNAT gives each its old scan id, one after the other, and moves its files over what lies there."""
    folder = tmp_path / "t/S/E"
    series = {
        one: make_series(folder, Series(f"T{one}", 3, tags={"SeriesNumber": one}), "study", one) for one in (1, 2, 3)
    }
    late = [paths.pop().rename(tmp_path / f"late{one}") for one, paths in series.items()]
    assert ingest("upload", tmp_path / "t").code == 0
    before = scans_of(site)
    for one, path in zip(series, late, strict=True):
        series[one].append(path.rename(folder / f"T{one}/late"))
        if one in anew:
            number_anew(series[one], anew[one])
        else:
            shutil.rmtree(folder / f"T{one}")
    kept = ingest("upload", tmp_path / "t", "--destination=prearchive", "--existing", mode)
    assert (kept.code, kept.kinds(), kept.totals["bytes_sent"]) == (3, ["same-number"], 0), kept.out
    for _ in range(2):
        ended = ingest("upload", tmp_path / "t", "--existing", mode)
        assert (ended.code, ended.totals["verified"]) == (0, 3 * len(anew)), ended.out
        assert scans_of(site) == before
    assert ingest("verify", tmp_path / "t", "--proof", "pixels").code == 0


# Of two series: the numbers of the instances that are archived, and of those that come later.
SEVERAL = {
    "one grows under both": (((3,), (4,)), ((), (3, 4))),
    "both grow under the other's": (((3,), (4,)), ((4,), (3,))),
    "one had both": (((3, 4), (4,)), ((), (3, 4))),
    "one had both, and the other grows": (((3, 4), (4,)), ((4,), (4,))),
}


def several(folder: Path, name: str, first: int, numbers: Iterable[int]) -> None:
    """Instances of one series under several SeriesNumbers. first: its place in the series."""
    for place, number in enumerate(numbers, first):
        (path,) = make_series(folder.parents[2] / "made", Series(f"{name}{place}", 1), "study", place)
        dataset = pydicom.dcmread(path)
        dataset.SeriesInstanceUID, dataset.SeriesDescription = uid_of(name), name
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(uid_of(name, place))
        dataset.SeriesNumber, dataset.InstanceNumber = number, place
        (folder / name).mkdir(parents=True, exist_ok=True)
        dataset.save_as(folder / name / str(place))


@pytest.mark.parametrize(("archived", "more"), SEVERAL.values(), ids=SEVERAL)
def test_series_that_share_several_numbers_grow(
    ingest: Ingest, site: StandIn, tmp_path: Path, archived: tuple[Any, Any], more: tuple[Any, Any]
) -> None:
    folder = tmp_path / "t/S/E"
    for name, numbers in zip("BC", archived, strict=True):
        several(folder, name, 1, numbers)
    assert ingest("upload", tmp_path / "t").code == 0
    for name, there, numbers in zip("BC", archived, more, strict=True):
        several(folder, name, 1 + len(there), numbers)
    total = sum(map(len, (*archived, *more)))
    ended = ingest("upload", tmp_path / "t")
    assert (ended.code, ended.totals["verified"]) == (0, total), ended.out
    held = [
        (scan.series_uid, pydicom.dcmread(path, stop_before_pixels=True))
        for scan in site.sessions("DEMO")[0].scans.values()
        for path in scan.files.values()
    ]
    assert all(of_scan == dataset.SeriesInstanceUID for of_scan, dataset in held)
    assert len(held) == len({dataset.SOPInstanceUID for _, dataset in held}) == total


def test_a_prearchive_session_whose_series_xnat_would_mix_up_is_not_archived(
    ingest: Ingest, site: StandIn, other: Other, tmp_path: Path
) -> None:
    """As an earlier release of this program left it when it was ended."""
    folder = tmp_path / "t/S/E"
    series = [make_series(folder, Series(f"T{one}", 3, tags={"SeriesNumber": one}), "study", one) for one in (1, 2)]
    late = [paths.pop().rename(tmp_path / f"late{one}") for one, paths in enumerate(series, 1)]
    assert ingest("upload", tmp_path / "t").code == 0
    before = scans_of(site)
    for one, paths in enumerate(series, 1):
        paths.append(late[one - 1].rename(folder / f"T{one}/late"))
        number_anew(paths, 3 - one)
    row = other.send([paths[-1] for paths in series])
    row.lastmod -= 3600
    ended = ingest("upload", tmp_path / "t")
    assert (ended.code, ended.kinds()) == (3, ["stale-row"]), ended.out
    assert "XNAT would mix them up" in ended.out
    assert (len(site.rows("DEMO")), scans_of(site)) == (1, before)


def test_pet_and_mr_where_the_project_separates_them(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """One session with both is a conflict on such a project, in every mode, and goes in elsewhere."""
    site.project("DEMO").petmr = "separate"
    make_session(tmp_path / "t/S/E", (T1, PET))
    for mode in MODES:
        ended = ingest("upload", tmp_path / "t", "--existing", mode)
        assert (ended.code, ended.kinds(), ended.totals["bytes_sent"]) == (3, ["petmr-split"], 0)
    site.project("DEMO").petmr = "petmr"
    assert ingest("upload", tmp_path / "t").code == 0
    assert stored(site, "DEMO", "S", "S_E").xsi_type == "xnat:petmrSessionData"


def test_session_label_in_another_case(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """Labels that differ only in case are one: what lacks goes into the session that is there, or nothing is sent."""
    make_session(tmp_path / "old", (T1,), "study")
    assert ingest("upload", tmp_path / "old", "-S", "S", "-E", "s_e").code == 0
    make_session(tmp_path / "t/S/E", (T1, Series("T2_0002", 2)), "study")
    ingest("upload", tmp_path / "t")
    assert [session.label for session in site.sessions("DEMO")] == ["s_e"]
    assert site.rows("DEMO") == []


# -- another run in the same row


def test_a_row_that_was_built_while_it_was_sent(ingest: Ingest, site: StandIn, other: Other, tmp_path: Path) -> None:
    """Series of one number: what came after the build lies beside what it moved. A person must delete that."""
    folder = tmp_path / "t/S/E"
    tree = [*make_series(folder, T1, "study", 1), *make_series(folder, Series("T2_0002", 4), "study", 1)]
    row = other.send([*tree[:2], *tree[4:6]], build=True)
    other.send([*tree[2:4], *tree[6:]])
    ended = ingest("upload", tmp_path / "t")
    assert (ended.code, set(ended.kinds())) == (3, {"live-row"}), ended.out
    assert "somebody had it built while it was sent: delete it (xnat-ingest prearchive delete -P DEMO" in ended.out
    assert main(["prearchive", "delete", "-P", "DEMO", row.timestamp, row.folder, "--yes"]) == 0
    assert ingest("upload", tmp_path / "t").code == 0
    whole(site, tree)


@pytest.mark.parametrize(("numbers", "is_divided"), [((1, 1), True), ((None, None), True), ((1, 2), False)])
def test_a_row_for_the_prearchive_that_is_built_while_it_is_sent(
    ingest: Ingest,
    site: StandIn,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    numbers: tuple[int | None, int | None],
    is_divided: bool,
) -> None:
    """It holds everything, and XNAT never archives it where the build has moved series. Then it is no success."""
    for name, number in zip(("T1", "T2"), numbers, strict=True):
        for path in make_series(tmp_path / "t/S/E", Series(name, 5), "study", 1):
            dataset = pydicom.dcmread(path)
            dataset.SeriesNumber = number
            dataset.save_as(path)
    told, parts = Sending._sent, list[str]()

    def built_by_another(sending: Sending, number: int) -> None:
        parts.append(sending.uri)
        if len(parts) == 7:
            (row,) = site.rows("DEMO")
            assert main(["prearchive", "rebuild", "-P", "DEMO", row.timestamp, row.folder]) == 0
        told(sending, number)

    monkeypatch.setattr(Sending, "_sent", built_by_another)
    flags = ("--destination", "prearchive", "--part-size", "12K", "-w", "1")
    ended = ingest("upload", tmp_path / "t", *flags)
    assert len(parts) > 4
    assert (ended.code, "stale-row" in ended.kinds()) == ((3, True) if is_divided else (0, False)), ended.out
    again = ingest("upload", tmp_path / "t", *flags)
    assert (again.code, "stale-row" in again.kinds()) == ((3, True) if is_divided else (0, False)), again.out
    (row,) = site.rows("DEMO")
    code = main(["prearchive", "archive", "-P", "DEMO", row.timestamp, row.folder])
    assert (code == 0) != is_divided
    if is_divided:
        assert main(["prearchive", "delete", "-P", "DEMO", row.timestamp, row.folder, "--yes"]) == 0
        assert ingest("upload", tmp_path / "t", *flags).code == 0


def test_a_row_that_is_gone_on_with_and_built_by_another_meanwhile(
    ingest: Ingest, site: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: Other
) -> None:
    """The same for a session that an earlier run has begun, and that nobody had built."""
    tree = [
        *make_series(tmp_path / "t/S/E", T1, "study", 1),
        *make_series(tmp_path / "t/S/E", Series("T2_0002", 5), "study", 1),
    ]
    other.send([tree[0]])
    told, parts = Sending._sent, list[str]()

    def built_by_another(sending: Sending, number: int) -> None:
        parts.append(sending.uri)
        if len(parts) == 4:
            (row,) = site.rows("DEMO")
            assert main(["prearchive", "rebuild", "-P", "DEMO", row.timestamp, row.folder]) == 0
        told(sending, number)

    monkeypatch.setattr(Sending, "_sent", built_by_another)
    flags = ("--destination", "prearchive", "--part-size", "12K", "-w", "1")
    for _ in range(2):
        ended = ingest("upload", tmp_path / "t", *flags)
        assert (ended.code, "stale-row" in ended.kinds(), len(parts) > 4) == (3, True, True), ended.out


@pytest.mark.wide
def test_row_somebody_is_sending_into(ingest: Ingest, site: StandIn, other: Other, tmp_path: Path) -> None:
    """Its list grows: we wait until nothing comes any more, compare afresh, and finish."""
    tree = make_session(tmp_path / "t/S/E", (Series("T1_0001", 12),), "study")
    row = other.send(tree[:1])

    def trickle() -> None:
        for path in tree[1:9]:
            other.send([path])
            row.lastmod = time.time()
            time.sleep(0.1)

    thread = threading.Thread(target=trickle)
    thread.start()
    ended = ingest("upload", tmp_path / "t")
    thread.join()
    assert (ended.code, ended.totals["verified"], ended.kinds()) == (0, 12, ["live-row"]), ended.err
    whole(site, tree)


@pytest.mark.parametrize("by_another", [False, True])
def test_row_that_waits_for_its_turn_to_be_committed(
    ingest: Ingest, site: StandIn, other: Other, tmp_path: Path, by_another: bool
) -> None:
    """To another run it looks as if nobody was sending it any more. What that run has touched is compared afresh."""
    tree = [path for name in "ab" for path in make_session(tmp_path / "t/S" / name, (T1, SR), name)]
    site.faults.add(Fault("slow-archive", seconds=1.5))

    def go_on() -> None:
        end = time.monotonic() + 10
        while not (
            waiting := [row for row in site.rows("DEMO") if row.status == "RECEIVING" and len(row.files) == 6]
        ) or ("_ARCHIVING" not in [row.status for row in site.rows("DEMO")]):
            assert time.monotonic() < end
            time.sleep(0.02)
        time.sleep(0.4)
        other.client("POST", f"/data{waiting[0].url}", action="build")

    thread = threading.Thread(target=go_on)
    if by_another:
        thread.start()
    ended = ingest("upload", tmp_path / "t", "-w", "1")
    if by_another:
        thread.join()
    assert (ended.code, ended.kinds()) == (0, ["live-row"] if by_another else []), ended.err
    whole(site, tree)


def test_a_session_whose_turn_has_come_and_that_fails_gives_its_turn_to_the_next(
    ingest: Ingest, site: StandIn, tmp_path: Path
) -> None:
    for name in "abc":
        make_session(tmp_path / "t/S" / name, (T1,), name)
    site.faults.add(Fault("slow-archive", seconds=1.5))

    def refuse() -> None:
        end = time.monotonic() + 10
        while [row.status for row in site.rows("DEMO")].count("RECEIVING") < 2 or len(site.rows("DEMO")) < 3:
            assert time.monotonic() < end
            time.sleep(0.02)
        time.sleep(0.7)  # both others wait for their turn
        site.faults.add(Fault("status", "GET /data/prearchive/projects/DEMO/[0-9_]+/S_.", status=403))

    thread = threading.Thread(target=refuse)
    thread.start()
    ended = ingest("upload", tmp_path / "t", "-w", "1")
    thread.join()
    assert ended.code == 3
    assert ended.totals["verified"] == 8


def test_only_the_waiting_is_limited_and_not_the_sending_before_it(
    ingest: Ingest, site: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prearchive, "STILL_LIMIT", 1.0)
    tree = make_session(tmp_path / "t/S/E", (T1, SR), "study")
    site.faults.add(Fault("slow", PART, rate=40_000))
    message = "Duplicate archive attempt. Prearchive session already archiving."
    site.faults.add(Fault("archive-fails", status=423, message=message))
    ended = ingest("upload", tmp_path / "t")
    assert (ended.code, ended.kinds()) == (0, ["live-row"]), ended.err
    whole(site, tree)


@pytest.mark.wide
def test_row_somebody_is_sending_one_long_file_into(
    ingest: Ingest, site: StandIn, other: Other, tmp_path: Path
) -> None:
    """No new name appears while a long file travels: that it grows is a sign of life, too."""
    long = Series("T1_0001", 3, tags={"PixelData": bytes(1_200_000)})
    tree = make_session(tmp_path / "t/S/E", (long,), "study")
    row = other.send(tree[:1])
    body = tar({path.name: path.read_bytes() for path in tree[1:]})
    headers = TAR | {"Content-Length": str(len(body))}

    def slowly() -> Iterator[bytes]:
        for start in range(0, len(body), 60_000):
            yield body[start : start + 60_000]
            time.sleep(0.04)

    query = "&".join(f"{key}={value}" for key, value in (PARAMS | OURS).items())
    replies = []
    thread = threading.Thread(
        target=lambda: replies.append(other.client("POST", f"/data/services/import?{query}", slowly(), headers))
    )
    thread.start()
    while len(row.files) < 2:
        time.sleep(0.01)
    ended = ingest("upload", tmp_path / "t")
    thread.join()
    assert [reply.status for reply in replies] == [200]
    assert "live-row" in ended.kinds(), ended.err
    if ended.code:
        assert [one.url for one in site.rows("DEMO")] == [row.url]
        assert ingest("upload", tmp_path / "t").code == 0
    whole(site, tree)


@pytest.mark.wide
def test_first_part_lands_in_another_runs_prearchive_session(
    ingest: Ingest, site: StandIn, other: Other, tmp_path: Path
) -> None:
    """The row has another run's timestamp: nothing more is sent until it stands still; then we finish the job."""
    tree = make_session(tmp_path / "t/S/E", (Series("T1_0001", 6), Series("T2_0002", 6)), "study")
    held = site.faults.add(Fault("delay", PART, seconds=0.5))

    def get_in_first() -> None:
        while not held.hits:
            time.sleep(0.01)
        other.send(tree[:2])

    thread = threading.Thread(target=get_in_first)
    thread.start()
    ended = ingest("upload", tmp_path / "t", "--part-size", "40K")
    thread.join()
    assert (ended.code, ended.totals["verified"], ended.kinds()) == (0, 12, ["live-row"]), ended.err
    whole(site, tree)


@pytest.mark.parametrize("destination", ["archive", "prearchive", "direct-archive"])
@pytest.mark.parametrize("parts", [(1, 1), (3, 3), (2, 2, 2)])
def test_a_series_that_comes_in_parts_of_equal_size(
    ingest: Ingest, site: StandIn, tmp_path: Path, parts: tuple[int, ...], destination: str
) -> None:
    """As disk after disk, or batch after batch. The names on the server tell that the next part is not there yet."""
    whole = make_session(tmp_path / "whole", (Series("T1_0001", sum(parts)),), "study")
    begin = 0
    for number, size in enumerate(parts):
        folder = tmp_path / f"part{number}/S/E/T1_0001"
        folder.mkdir(parents=True)
        for path in whole[begin : begin + size]:
            shutil.copy(path, folder)
        begin += size
        ended = ingest("upload", tmp_path / f"part{number}", "--destination", destination)
        assert (ended.code, ended.totals["verified"], ended.totals["counted"]) == (0, size, 0), ended.out
        assert ended.totals["bytes_sent"] > 0
    held = [name for session in site.sessions("DEMO") for name in session.files]
    held += [name for row in site.rows("DEMO") for name in row.files]
    assert len(set(held)) == sum(parts)
    for number in range(len(parts)):
        checked = ingest("verify", tmp_path / f"part{number}", "--destination", destination)
        assert (checked.code, checked.totals["verified"]) == (0, parts[number])


@pytest.mark.parametrize("destination", ["archive", "prearchive", "direct-archive"])
@pytest.mark.parametrize("number", ["5", "", "01"])
def test_a_series_whose_second_part_has_another_number(
    ingest: Ingest, site: StandIn, tmp_path: Path, number: str, destination: str
) -> None:
    """As exports and coercion make it. The prearchive takes it as another scan, the archive would refuse it.

    Never is it taken for the first part.
    """
    whole = make_session(tmp_path / "whole", (Series("T1_0001", 6),), "study")
    for place, paths in (("a", whole[:3]), ("b", whole[3:])):
        folder = tmp_path / place / "S/E/T1_0001"
        folder.mkdir(parents=True)
        for path in paths:
            dataset = pydicom.dcmread(path)
            dataset.SeriesNumber = number if place == "b" else dataset.SeriesNumber
            dataset.save_as(folder / path.name)
        ended = ingest("upload", tmp_path / place, "--destination", destination)
        there = 3 if place == "a" or destination == "prearchive" else 0
        assert (ended.totals["verified"], ended.totals["bytes_sent"] > 0) == (there, bool(there)), ended.out
        assert ended.code == (0 if there else 3)
    assert there or (ended.kinds(), site.rows("DEMO")) == (["same-number"], [])
    assert there or (number or "no SeriesNumber") in ended.out
    checked = ingest("verify", tmp_path / "b", "--destination", destination)
    assert (checked.code, checked.totals["verified"]) == (0 if there else 3, there)


@pytest.mark.parametrize("digits", [6, 7])
def test_names_that_end_with_digits_alone(ingest: Ingest, site: StandIn, tmp_path: Path, digits: int) -> None:
    """One UID in thousands has such a hash, and the hashes of neighbours are neighbours."""
    uids = (f"1.2.{number * 2654435761}" for number in range(10**6))
    first = next(uid for uid in uids if re.fullmatch(rf"\d{{{digits}}}", uid_hash(MRImageStorage, uid)))
    made = make_session(tmp_path / "whole", (Series("T1_0001", 2),), "study")
    for place, path, uid in (("a", made[0], first), ("b", made[1], "1.2.4")):
        folder = tmp_path / place / "S/E/T1_0001"
        folder.mkdir(parents=True)
        dataset = pydicom.dcmread(path)
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = MRImageStorage
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(uid)
        dataset.save_as(folder / path.name)
        ended = ingest("upload", tmp_path / place)
        assert (ended.code, ended.totals["verified"], ended.totals["counted"]) == (0, 1, 0), ended.out
        assert ended.totals["bytes_sent"] > 0
    assert len({name for session in site.sessions("DEMO") for name in session.files}) == 2
