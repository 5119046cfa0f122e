"""Series of one number, against the stand-in's archiver: each series ends in its own scan, with its own files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations, product
from pathlib import Path

import pytest

from tests.standin.archiver import correct_scan_ids
from tests.standin.model import ArchivedSession, Scan
from tests.unit.test_decision import Listings
from xnat_ingest.core import Instance
from xnat_ingest.delivery.same_number import SameNumber, split_by_merge
from xnat_ingest.xnat.archive import StoredFiles, in_archive
from xnat_ingest.xnat.scan_ids import PRIMARY, built_ids

IDS = ("7", "7-MR1", "7-MR2", "7-MR3", "7-MR4")
SERIES = ("1.1", "1.2", "1.3", "1.4")


def instance(series: str, number: int) -> Instance:
    uid = f"{series}.{number}"
    text = ("7", str(number), "MR", "", "1.2.840.10008.1.2.1")
    return Instance(uid, 1000, 0, min(PRIMARY), uid, "1", series, *text, 600, {})


def held_and_there(ids: Sequence[str]) -> tuple[StoredFiles, list[Instance]]:
    """What the archive lists, and those instances: one of each series that has an id there."""
    there = {instance(uid, 1).name: scan for uid, scan in zip(SERIES, ids, strict=True) if scan}
    archived = [instance(uid, 1) for uid, scan in zip(SERIES, ids, strict=True) if scan]
    return StoredFiles("X", dict.fromkeys(there, 1000), scans=there), archived


def archive_of(ids: Sequence[str]) -> ArchivedSession:
    session = ArchivedSession("X", "P", "S", "E", "1", "xnat:mrSessionData", "MR", Path("E"))
    session.scans = {
        scan: Scan(scan, uid, "", "MR", "xnat:mrScanData") for uid, scan in zip(SERIES, ids, strict=True) if scan
    }
    return session


def archived_in(
    session: ArchivedSession, sent: Sequence[Instance], *, backwards: bool
) -> dict[str, tuple[str, set[str]]]:
    """Series UID -> scan id and names, after the commit of these instances. Fails where XNAT would refuse them."""
    ids = built_ids(sent)
    scans = [Scan(ids[uid], uid, "", "MR", "xnat:mrScanData") for uid in sorted(ids, reverse=backwards)]
    for scan in scans:
        scan.files = {i.name: Path(i.name) for i in sent if i.series_uid == scan.series_uid}
    in_place = {scan.id: scan.series_uid for scan in session.scans.values()}
    refused = [one.id for one in scans if one.series_uid in in_place.values() and one.id not in in_place]
    assert not refused, "a scan with the same UID, but a different number"
    if any(in_place.get(one.id, one.series_uid) != one.series_uid for one in scans):
        correct_scan_ids(session, scans)
    return {one.series_uid: (one.id, set(one.files)) for one in scans}


def test_no_two_series_are_mixed_up() -> None:
    """All ways in which four series can be archived, or not yet, and all of which something is to be sent."""
    tried = 0
    for ids in product(("", *IDS), repeat=len(SERIES)):
        taken = [scan for scan in ids if scan]
        if len(set(taken)) < len(taken):
            continue
        session = archive_of(ids)
        held, there = held_and_there(ids)
        for grows in product((False, True), repeat=len(SERIES)):
            to_send = [instance(uid, 2) for uid, more in zip(SERIES, grows, strict=True) if more]
            planned = [*there, *to_send]
            found = split_by_merge(to_send, planned, held, {i.sop_uid for i in there})
            assert found.now or found.stuck or not to_send
            check(session, found, ids)
            tried += 1
    assert tried == 8016


def check(session: ArchivedSession, found: SameNumber, ids: Sequence[str]) -> None:
    sent = (*found.now, *found.companions)
    if found.stuck or not sent:
        return
    for backwards in (False, True):  # the order of scans in a session document is not ours to know
        for uid, (scan, names) in archived_in(session, sent, backwards=backwards).items():
            assert names == {i.name for i in sent if i.series_uid == uid}, (ids, uid, sent)
            known = ids[SERIES.index(uid)]
            assert scan == known if known else scan not in ids, (ids, uid)


def test_no_two_series_are_mixed_up_that_were_numbered_anew() -> None:
    """All ways in which three series can have got each other's numbers since they were archived."""
    anew = product(permutations(("1", "2", "3", "4", ""), 3), permutations(("1", "2", "3"), 3))
    rounds = Counter(all_rounds(*one) for one in anew)
    assert rounds == {0: 288, 1: 24, 2: 36, 3: 12}


def all_rounds(ids: Sequence[str], numbers: Sequence[str]) -> int:
    """How many rounds it takes to archive one more instance of each series, 0 where XNAT would refuse one."""
    session, uids = ArchivedSession("X", "P", "S", "E", "1", "xnat:mrSessionData", "MR", Path("E")), SERIES[:3]
    there = {uid: scan for uid, scan in zip(uids, ids, strict=True) if scan}
    session.scans = {scan: Scan(scan, uid, "", "MR", "xnat:mrScanData") for uid, scan in there.items()}
    files = [listed(uid, scan) for uid, scan in there.items()]
    held = in_archive(Listings(files=files, scans=[{"ID": scan, "UID": uid} for uid, scan in there.items()]), "X")
    old, new = (
        [replace(instance(uid, one), series_number=number) for uid, number in zip(uids, numbers, strict=True)]
        for one in (1, 2)
    )
    left, rounds = new, 0
    while left:
        found = split_by_merge(left, [*(i for i in old if i.series_uid in there), *new], held, set())
        if found.stuck:
            assert {one.instance.series_number for one in found.stuck}.isdisjoint(there.values())
            return 0
        assert found.now
        for backwards in (False, True):
            for uid, (scan, names) in archived_in(session, found.now, backwards=backwards).items():
                assert names == {i.name for i in found.now if i.series_uid == uid}, (ids, numbers)
                assert scan == there.get(uid, scan), (ids, numbers)
        left = [i for i in left if i not in found.now]
        assert bool(left) == found.later
        rounds += 1
    return rounds


def test_two_numbers_of_a_series_that_both_belong_to_others_do_not_go_together() -> None:
    """XNAT would move both to the scan of the series, one over the other."""
    there = {"1.1": "1", "1.2": "3", "1.3": "2"}
    files = [listed(uid, scan) for uid, scan in there.items()]
    held = in_archive(Listings(files=files, scans=[{"ID": scan, "UID": uid} for uid, scan in there.items()]), "X")
    old = [replace(instance(uid, 1), series_number=scan) for uid, scan in there.items()]
    new = [replace(instance("1.3", one), series_number=number) for one, number in ((2, "1"), (3, "3"))]
    found = split_by_merge(new, [*old, *new], held, set())
    assert (len(found.now), found.later, found.stuck) == (1, True, ())


def listed(uid: str, scan: str) -> dict[str, str]:
    """The row of a file in a listing."""
    name = instance(uid, 1).name
    uri = f"/data/experiments/X/scans/{scan}/resources/1/files/{name}"
    return {"Name": name, "Size": "1000", "collection": "DICOM", "URI": uri}


@pytest.mark.parametrize(
    ("ids", "grows", "now", "companions"),
    [
        (("7-MR1", "7-MR2", "7-MR3", ""), ("1.2", "1.3"), {"1.2", "1.3"}, {"1.1"}),  # alone: 7-MR1 and 7-MR2, a chain
        (("7", "7-MR1", "", ""), ("1.3", "1.4"), {"1.3", "1.4"}, {"1.1"}),  # alone: 7-MR1 is in use, 7-MR2 not
        (("7", "", "", ""), ("1.2", "1.3"), {"1.2", "1.3"}, set()),
        (("7-MR1", "7-MR2", "", ""), ("1.3", "1.4"), {"1.3", "1.4"}, set()),
    ],
)
def test_which_go_together(ids: tuple[str, ...], grows: tuple[str, ...], now: set[str], companions: set[str]) -> None:
    held, there = held_and_there(ids)
    to_send = [instance(uid, 2) for uid in grows]
    found = split_by_merge(to_send, [*there, *to_send], held, {i.sop_uid for i in there})
    assert {i.series_uid for i in found.now} == now
    assert {i.series_uid for i in found.companions} == companions


@pytest.mark.parametrize(("grows", "along"), [("11", set()), ("7", {"1.2"})])
def test_a_series_of_two_numbers_needs_the_siblings_of_the_number_that_grows(grows: str, along: set[str]) -> None:
    held, there = held_and_there(("7-MR1", "7-MR2", "", ""))
    second = replace(instance("1.1", 8), series_number="11")
    held = replace(held, scans={**held.scans, second.name: "11"}, sizes={**held.sizes, second.name: 1000})
    new = replace(instance("1.1", 2), series_number=grows)
    found = split_by_merge([new], [*there, second, new], held, {i.sop_uid for i in [*there, second]})
    assert (found.now, {i.series_uid for i in found.companions}, found.later) == ((new,), along, False)


@pytest.mark.parametrize(
    ("number", "scan", "uid", "hashed", "taken"),
    [
        ("", "2_25_9", "2.25.9", True, True),  # the site's script has made 2.25.9 of 1.1
        ("", "2_25_9", "2.25.9", False, False),
        ("", "2_25_9", "2.25.8", True, False),
        ("", "7", "2.25.9", True, False),  # it had a number
        ("7", "2_25_9", "2.25.9", True, False),  # it had none
        ("7", "7", "2.25.9", True, True),
        ("", "1_1", "1.1", False, True),
        ("", "1_1", "1.1", True, True),  # a script that leaves UIDs of series alone
    ],
)
def test_a_series_without_number(number: str, scan: str, uid: str, hashed: bool, taken: bool) -> None:
    """XNAT takes more of a series that is archived without number, by its UID there, and not under another id."""
    first, second = (replace(instance("1.1", one), series_number=number) for one in (1, 2))
    uri = f"/data/experiments/X/scans/{scan}/resources/1/files/{first.name}"
    file = {"Name": first.name, "Size": "1000", "collection": "DICOM", "URI": uri}
    held = in_archive(Listings(files=[file], scans=[{"ID": scan, "UID": uid}]), "X")
    found = split_by_merge([second], [first, second], held, {first.sop_uid}, hashed=hashed)
    assert bool(found.now) and not found.stuck if taken else [one.scan for one in found.stuck] == [scan]


@pytest.mark.parametrize(
    ("ids", "wanted", "recounts", "along"),
    [
        (("7-MR1", "7-MR2", "7-MR3", ""), "1.1", True, {"1.2"}),
        (("7-MR1", "7-MR2", "7-MR3", ""), "1.3", True, {"1.1", "1.2"}),
        (("7-MR1", "7-MR2", "7-MR3", ""), "1.3", False, {"1.1"}),
        (("7-MR1", "7-MR2", "", ""), "1.3", True, set()),
        (("7", "", "", ""), "1.2", True, set()),  # no company leaves all of them in place
        (("7", "", "", ""), "1.2", False, set()),
    ],
)
def test_a_script_that_has_scans_counted_again_leaves_them_in_place(
    ids: Sequence[str], wanted: str, recounts: bool, along: set[str]
) -> None:
    """After the ids were corrected, so a choice that needs no correction comes first."""
    held, there = held_and_there(ids)
    new = instance(wanted, 2)
    found = split_by_merge([new], [*there, new], held, {i.sop_uid for i in there}, recounts=recounts)
    assert (found.now, {i.series_uid for i in found.companions}) == ((new,), along)
