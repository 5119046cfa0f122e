"""One contract for every way in: input form, transport and destination (the ways are in ``contract.table``).

After each of them the server's disk holds exactly the source's instances, element by element, and the program has seen
each of them there by its identity.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Ended, Ingest
from tests.contract.table import FORMS, STAMPED, WAYS, Given, Way, but, files_of, folder, on_disk
from tests.standin import StandIn
from tests.standin.receiver import Received
from tests.transport_flags import transport_flags

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_WATCHES: list[list[Path]] = []


def _hear(event: str, args: tuple[Any, ...]) -> None:
    """An audit hook, which sees every file that this process opens and every folder it makes."""
    opens = event == "open" and isinstance(args[0], str | bytes | os.PathLike) and args[2] & _WRITES
    if _WATCHES and (opens or event == "os.mkdir"):
        for watch in _WATCHES:
            watch.append(Path(os.fsdecode(args[0])).absolute())


sys.addaudithook(_hear)


@contextmanager
def nothing_written_but(*places: Path) -> Iterator[None]:
    """No temporary file, and nothing beside the source: only these folders are written to."""
    watch: list[Path] = []
    _WATCHES.append(watch)
    try:
        yield
    finally:
        _WATCHES.remove(watch)
    strays = [path for path in watch if path.parent.name != "__pycache__"]
    assert [path for path in strays if not any(path.is_relative_to(place) for place in places)] == []


@contextmanager
def by(transport: str, site: StandIn) -> Iterator[tuple[tuple[str, ...], list[Received]]]:
    """A transport's flags, and what the DICOM receiver has received."""
    if transport != "cstore":
        yield transport_flags(transport, 0), []
        return
    with site.receive() as receiver:
        yield transport_flags(transport, receiver.port), receiver.received


def holds_the_contract(ingest: Ingest, site: StandIn, given: Given, way: Way, out: Path) -> Ended:
    """Uploads, uploads again, verifies. out: the only folder that the program may write to."""
    stamped = STAMPED if way.transport == "cstore" else frozenset()
    there = but(stamped, given.held)
    left = {label for _, label, _ in there} if way.destination == "prearchive" else set()
    flags = (*given.flags, "--destination", way.destination)
    what, settled = str(given.root), flags
    with nothing_written_but(site.root, out), by(way.transport, site) as (transport, received):
        if given.by_plan:
            assert ingest("plan", what, *flags, "--json", str(out / "plan.json")).code == 0
            what, settled = f"--plan={out / 'plan.json'}", flags[-2:]
        first = proven(ingest("upload", what, *settled, *transport, "--part-size", "30K"), given)
        assert but(stamped, on_disk(site)) == there
        assert {(row.label, row.status) for row in site.prearchive.rows()} == {(label, "READY") for label in left}
        assert len(site.prearchive.rows()) == len(left)
        assert not site.direct.rows()
        if way.destination == "direct-archive" and way.transport != "cstore":  # whose receiver decides by itself
            assert not [one for one in site.requests if one.query.get("action") == "commit"]
        before, arrived = stamps(site), len(received)
        again = proven(ingest("upload", what, *settled, *transport), given)
        assert again.totals["already_there"] == len(there)
        assert again.totals["bytes_sent"] == 0
        assert len(received) == arrived
        proven(ingest("verify", given.root, *flags), given)
        assert stamps(site) == before
    return first


def stamps(site: StandIn) -> list[tuple[Path, int]]:
    """When each file on the server was last written."""
    return [(path, path.stat().st_mtime_ns) for path in files_of(site)]


def proven(ended: Ended, given: Given) -> Ended:
    """Each instance by identity, none by counting. The two laws are held on every run."""
    assert ended.code == 0, ended.out + ended.err
    totals, instances = ended.totals, len(given.held)
    assert (totals["planned"], totals["verified"], totals["set_aside"]) == (instances, instances, given.set_aside)
    assert {session["verdict"] for session in ended.report["sessions"]} == {"verified"}
    return ended


@pytest.mark.sampled(1)
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_contract(
    way: Way,
    site: StandIn,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    ingest: Ingest,
    record_property: Callable[[str, object], None],
) -> None:
    record_property("way", str(way))
    given = FORMS[way.form](tmp_path)
    (out := tmp_path / "out").mkdir()
    ended = holds_the_contract(Ingest(site, out, capsys), site, given, way, out)
    record_property("instances", ended.totals["planned"])
    verified = ended.totals["verified"]
    record_property("outcome", f"exit {ended.code}, {verified} verified; again: nothing sent; verify: exit 0")


WRITES: dict[str, Callable[[Path], object]] = {
    "temporary file": lambda _: tempfile.TemporaryFile().close(),
    "temporary folder": lambda _: tempfile.TemporaryDirectory().cleanup(),
    "beside": lambda folder: (folder / "beside").write_text("x"),
    "touched": lambda folder: (folder / "beside").touch(),
}


@pytest.mark.parametrize("name", WRITES)
def test_the_watch_sees_what_is_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(AssertionError), nothing_written_but(tmp_path / "out"):
        WRITES[name](tmp_path)
    with nothing_written_but(tmp_path, Path(tempfile.gettempdir())):
        WRITES[name](tmp_path)
    with nothing_written_but():
        assert Path(__file__).read_text()


@pytest.mark.wide
@pytest.mark.parametrize("spoil", ["lost", "other pixels", "twice", "elsewhere"])
def test_the_disk_is_compared(site: StandIn, ingest: Ingest, tmp_path: Path, spoil: str) -> None:
    """What the program's proof by name and size cannot see would show here."""
    given = folder(tmp_path)
    assert ingest("upload", given.root).code == 0
    assert on_disk(site) == given.held
    victim = next(path for path in files_of(site) if path.stat().st_size > 9000)
    if spoil == "other pixels":
        raw = bytearray(victim.read_bytes())
        raw[-300] ^= 1
        victim.write_bytes(raw)
    elif spoil == "twice":
        shutil.copy(victim, victim.with_name("copy.dcm"))
    elif spoil == "elsewhere":
        (other := Path(str(victim).replace("/007_pre/", "/999_pre/"))).parent.mkdir(parents=True)
        victim.rename(other)
    else:
        victim.unlink()
    assert on_disk(site) != given.held
