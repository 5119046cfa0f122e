"""`xnat-ingest resource put`: each name arrives as it is, or is refused with the reason; what travels together."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tests.contract.test_resource_verbs import SESSION, Run, contents, folder, kept, local, make, run
from tests.standin import StandIn
from xnat_ingest.commands.resources import files as resourcefiles
from xnat_ingest.commands.resources.files import LocalFile, addressable
from xnat_ingest.commands.resources.listings import _name

__all__ = ["folder", "run"]
ODD = (
    "two words.txt",
    "a+b",
    "hash#1.txt",
    "50%25",
    "what?",
    "ö/ünï cödé.txt",
    "d.1/.hidden",
    "-rf",
    " blank",
    "semi;colon&and=",
    "'quote\"",
    "x" * 120 + ".txt",
)


def test_odd_names_arrive_as_they_are(site: StandIn, run: Run, tmp_path: Path) -> None:
    root = make(tmp_path / "odd", {name: name.encode() for name in ODD})
    code, _, err = run("put", root, "--label", "NOTES", *SESSION)
    assert code == 0, err
    assert contents(kept(site)) == local(root)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("name", ODD)
def test_each_odd_name_alone(site: StandIn, run: Run, tmp_path: Path, name: str) -> None:
    root = make(tmp_path / "odd", {name: b"abc"})
    assert run("put", root, "--label", "NOTES", *SESSION)[0] == 0
    assert contents(kept(site)) == {name: b"abc"}
    assert run("put", root, "--label", "NOTES", *SESSION)[1].startswith("0 sent, 1 already there")


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("name", "why"),
    [
        (b"new\nline", "control characters"),
        (b"back\\slash", "backslash"),
        (b"\xff\xfe", "not valid UTF-8"),
        (b"NOTES_catalog.xml", "for itself"),
        (b".~lock-x", "for itself"),
        (b"d%20e/x", "encoded character"),
    ],
)
def test_names_that_cannot_be_kept(site: StandIn, run: Run, tmp_path: Path, name: bytes, why: str) -> None:
    path = tmp_path / "odd" / os.fsdecode(name)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    (tmp_path / "odd/good").write_bytes(b"y")
    code, out, err = run("put", tmp_path / "odd", "--label", "NOTES", *SESSION)
    assert (code, out) == (3, "1 sent, 0 already there, 0 different, 1 failed: exit 3\n")
    assert why in err
    assert contents(kept(site)) == {"good": b"y"}


def test_links_that_leave_the_folder_are_not_followed(site: StandIn, run: Run, tmp_path: Path, folder: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (folder / "out").symlink_to(tmp_path / "secret")
    (folder / "in").symlink_to("a.txt")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        code, _, err = run("put", folder, "--label", "NOTES", *SESSION)
    assert code == 0
    assert "left out out: points outside ROOT" in err
    assert "left out socket" in err
    assert set(contents(kept(site))) == {"a.txt", "d/b.txt", "d/.empty", "z.bin", "in"}


def test_an_empty_file(site: StandIn, run: Run, tmp_path: Path) -> None:
    """XNAT refuses a body of no bytes."""
    root = make(tmp_path / "r", {"nothing": b""})
    assert run("put", root / "nothing", "--label", "NOTES", *SESSION)[0] == 0
    assert contents(kept(site)) == {"nothing": b""}


@pytest.mark.parametrize(
    ("name", "whole"),
    [("a/b-1.txt", True), ("a b", True), ("a+b", True), (" a", False), ("a#b", False), ("ö b", False)],
)
def test_what_survives_in_an_address(name: str, whole: bool) -> None:
    assert addressable(name) is whole


def test_batches() -> None:
    def file(name: str, size: int) -> LocalFile:
        return LocalFile(name, name, size)

    big, small = resourcefiles.BIG, resourcefiles.BIG - 1
    files = [file("a", big), file("b", 1), file("c#", big), *(file(f"d{n}", small) for n in range(4))]
    cut = [[one.name for one in batch] for batch in resourcefiles.batches(files)]
    assert cut == [["a"], ["b", "c#", "d0", "d1", "d2"], ["d3"]]
    many = [file(str(n), 0) for n in range(resourcefiles.TAR_FILES + 1)]
    assert [len(batch) for batch in resourcefiles.batches(many)] == [resourcefiles.TAR_FILES, 1]


@pytest.mark.parametrize(
    ("tail", "last", "name"),
    [
        ("a%23b", "a#b", "a#b"),  # encoded in the address, plain in the column
        ("a%23b", "a%23b", "a%23b"),  # not encoded
        ("d%20e/x", "x", "d e/x"),
        ("d e/50%25", "50%25", "d e/50%25"),
        ("d e%20/x", "x", "d e%20/x"),  # a blank: nothing is encoded here
        ("d/50%2525", "50%25", "d/50%25"),
    ],
)
def test_names_in_listings(tail: str, last: str, name: str) -> None:
    assert _name({"URI": f"/data/experiments/E/resources/1/files/{tail}", "Name": last}) == name
