"""`xnat-ingest resource list|delete`, and whose resources are meant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PASSWORD
from tests.contract.test_resource_verbs import SESSION, Run, contents, folder, kept, local, make, run, writes
from tests.standin import Fault, StandIn
from tests.standin.samples import Client
from xnat_ingest.commands.resources import target

__all__ = ["folder", "run"]


# -- whose


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("-P", "NOWHERE"), 6, "project NOWHERE does not exist"),
        (("-P", "HIDDEN"), 6, "project HIDDEN does not exist"),
        (("-P", "DEMO", "-S", "S9"), 6, "subject S9 does not exist"),
        (("-P", "DEMO", "-E", "E9"), 6, "session E9 does not exist"),
        (("-S", "S1"), 6, "subject S1 (without -P this must be the subject's id"),
        (("-P", "DEMO", "-S", "S2", "-E", "E1"), 1, "session E1 belongs to subject S1, not S2"),
        (("-E", "E1"), 6, "session E1 (without -P this must be an accession id) does not exist"),
        (("-P", "DEMO", "-E", "E1", "--scan", "9"), 1, "session E1 has no scan 9; it has 3"),
        (("-P", "DEMO", "-E", "E1", "--scan", "T1"), 1, "session E1 has no scan T1; it has 3"),
        (("-P", "DEMO"), 6, "only owners can write a project's own resources"),
        (("-P", "READONLY"), 6, "user up may not put files into /data/projects/READONLY"),
    ],
)
def test_where_nothing_can_be_put(
    site: StandIn, run: Run, folder: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    client = Client(site.url, user="up", password=PASSWORD).login()
    assert client("PUT", "/data/projects/DEMO/subjects/S2").status == 201
    client.close()
    ended, out, err = run("put", folder, "--label", "NOTES", *words)
    assert (ended, out) == (code, "")
    assert said in err
    assert writes(site) == []


@pytest.mark.wide
def test_another_subject_s_session(site: StandIn, run: Run, folder: Path) -> None:
    """Below a subject's address, XNAT finds the sessions of the project's other subjects as well."""
    site.project("DEMO").access["up"] = "delete"
    client = Client(site.url, user="up", password=PASSWORD).login()
    assert client("PUT", "/data/projects/DEMO/subjects/S2").status == 201
    client.close()
    run("put", folder, "--label", "NOTES", *SESSION)
    other = ("-P", "DEMO", "-S", "S2", "-E", "E1")
    for words in (("list", *other), ("delete", "--label", "NOTES", "--yes", *other), ("list", "--scan", "3", *other)):
        code, out, err = run(*words)
        assert (code, out) == (1, "")
        assert "session E1 belongs to subject S1, not S2" in err
    assert contents(kept(site)) == local(folder)
    assert run("list", "-P", "DEMO", "-S", "XNAT_S00001", "-E", "E1")[0] == 0


# -- list


@pytest.mark.wide
def test_list(site: StandIn, run: Run, folder: Path) -> None:
    assert run("list", *SESSION)[:2] == (0, "no resources\n")
    run("put", folder, "--label", "NOTES", "--format", "TXT", "--tags", "a", *SESSION)
    (folder / "more").write_bytes(b"more")
    run("put", folder, "--label", "NOTES", "--tags", "a", *SESSION)
    code, out, _ = run("list", *SESSION)
    assert code == 0
    assert [line.split() for line in out.splitlines()] == [
        ["LABEL", "FILES", "BYTES", "FORMAT", "CONTENT", "TAGS"],
        ["NOTES", "5", "5017", "TXT", "a"],
    ]
    code, out, _ = run("list", "--label", "NOTES", *SESSION)
    assert [line.split()[:2] for line in out.splitlines()][:3] == [["NAME", "SIZE"], ["a.txt", "3"], ["d/.empty", "0"]]
    code, out, err = run("list", "--label", "NOTE", *SESSION)
    assert (code, out) == (1, "")
    assert "there is no resource NOTE; existing: NOTES" in err


# -- delete


@pytest.fixture
def owner(site: StandIn, run: Run) -> Run:
    site.project("DEMO").access["up"] = "delete"
    return run


def test_delete_a_resource(site: StandIn, owner: Run, folder: Path) -> None:
    owner("put", folder, "--label", "NOTES", *SESSION)
    disk = kept(site).directory
    code, out, err = owner("delete", "--label", "NOTES", *SESSION)
    assert (code, "add --yes" in err, "a.txt" in out) == (2, True, True)
    assert contents(kept(site)) == local(folder)
    assert owner("delete", "--label", "NOTES", "--yes", *SESSION)[:2] == (0, "deleted resource NOTES with its files\n")
    assert not disk.exists()
    code, out, err = owner("delete", "--label", "NOTES", "--yes", *SESSION)
    assert (code, out) == (1, "")
    assert "there is no resource NOTES; existing: none; nothing was deleted" in err


@pytest.mark.wide
def test_delete_keeps_files(site: StandIn, owner: Run, folder: Path) -> None:
    owner("put", folder, "--label", "NOTES", *SESSION)
    code, out, _ = owner("delete", "--label", "NOTES", "--keep-files", "--yes", "d/", *SESSION)
    assert (code, out.splitlines()) == (
        0,
        [f"deleted {name} (it stays on the server disk)" for name in ("d/.empty", "d/b.txt")],
    )
    assert set(kept(site).files) == {"a.txt", "z.bin"}
    assert (kept(site).directory / "d/b.txt").exists()
    assert owner("delete", "--label", "NOTES", "--keep-files", "--yes", *SESSION)[0] == 0
    assert kept(site).files == {}
    assert local(kept(site).directory) == local(folder)


@pytest.mark.wide
def test_delete_only_what_is_named(site: StandIn, owner: Run, tmp_path: Path) -> None:
    root = make(tmp_path / "r", dict.fromkeys(("a", "ab", "d/a", "d#1", "d#2", "#"), b"x"))
    owner("put", root, "--label", "NOTES", *SESSION)
    code, out, err = owner("delete", "--label", "NOTES", "--yes", "a", "zzz", *SESSION)
    assert (code, out) == (1, "")
    assert "failed a: XNAT would delete everything that begins with a, including ab" in err
    assert "not found zzz" in err
    assert len(kept(site).files) == 6
    code, out, _ = owner("delete", "--label", "NOTES", "--yes", "a", "ab", "gone", *SESSION)
    assert (code, out) == (3, "deleted a\ndeleted ab\n")
    assert owner("delete", "--label", "NOTES", "--yes", "d#1", *SESSION)[0] == 1
    assert owner("delete", "--label", "NOTES", "--yes", "#", *SESSION)[0] == 1
    said = owner("delete", "--label", "NOTES", "--yes", "#", *SESSION)[2]
    assert "XNAT would delete all files of the resource, including d#1, d#2, d/a" in said
    assert set(kept(site).files) == {"d/a", "d#1", "d#2", "#"}
    assert owner("delete", "--label", "NOTES", "--yes", "d#1", "d#2", "d/", *SESSION)[0] == 0
    assert set(kept(site).files) == {"#"}
    assert owner("delete", "--label", "NOTES", "--yes", "#", *SESSION)[0] == 0


def test_delete_keeps_what_others_store_meanwhile(
    site: StandIn, owner: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name begins with one that is to be deleted, and it comes after the first deletion."""
    owner("put", make(tmp_path / "r", dict.fromkeys(("a", "report", "z"), b"x")), "--label", "NOTES", *SESSION)
    colleague = Client(site.url, "up", PASSWORD).login()
    address = "/data/projects/DEMO/subjects/S1/experiments/E1/resources/NOTES/files/report_2"
    delete, late = target._delete, iter([address])

    def then_stored(*args: Any) -> None:
        delete(*args)
        for one in late:
            assert colleague("PUT", one, b"theirs", inbody="true").status == 200

    monkeypatch.setattr(target, "_delete", then_stored)
    code, _, err = owner("delete", "--label", "NOTES", "--yes", "a", "report", "z", *SESSION)
    assert code == 3, err
    assert "XNAT would delete everything that begins with report, including report_2" in err
    assert set(kept(site).files) == {"report", "report_2"}
    colleague.close()


@pytest.mark.wide
def test_images_of_a_scan_are_not_deleted_by_the_way(site: StandIn, owner: Run, tmp_path: Path) -> None:
    root = make(tmp_path / "r", {"1.dcm": b"x", "2.dcm": b"x"})
    scan = ("--scan", "3", *SESSION)
    for label, words in (("DICOM", ()), ("secondary", ("--format", "DICOM"))):
        assert owner("put", root, "--label", label, *words, *scan)[0] == 0
        for names in ((), ("1.dcm",)):
            code, out, err = owner("delete", "--label", label, "--yes", *names, *scan)
            assert (code, out) == (2, "")
            assert f"{label} contains the DICOM images of scan 3; {2 - len(names)} of these files" in err
        assert len(json.loads(owner("list", "--label", label, "--json", *scan)[1])) == 2
        assert owner("delete", "--label", label, "--force", *scan)[0] == 2
        assert owner("delete", "--label", label, "--yes", "--force", *scan)[0] == 0
    assert owner("list", *scan)[1] == "no resources\n"
    assert owner("put", root, "--label", "DICOM", *SESSION)[0] == 0
    assert owner("delete", "--label", "DICOM", "--yes", *SESSION)[0] == 0  # of the session: no scan's images


def test_members_may_not_delete(site: StandIn, run: Run, folder: Path) -> None:
    run("put", folder, "--label", "NOTES", *SESSION)
    for names in ([], ["a.txt"]):
        code, out, err = run("delete", "--label", "NOTES", "--yes", *names, *SESSION)
        assert (code, out) == (6, "")
        assert "may not delete here; ask an owner" in err
    assert contents(kept(site)) == local(folder)


@pytest.mark.wide
def test_a_lost_answer_to_a_deletion(site: StandIn, owner: Run, folder: Path) -> None:
    owner("put", folder, "--label", "NOTES", *SESSION)
    site.faults.add(Fault("reset-reply", match="DELETE"))
    assert owner("delete", "--label", "NOTES", "--yes", "a.txt", *SESSION)[0] == 0
    site.faults.add(Fault("reset-reply", match="DELETE"))
    assert owner("delete", "--label", "NOTES", "--yes", *SESSION)[0] == 0
