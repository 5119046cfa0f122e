"""Putting files into a resource when the server, the line or the files misbehave: nothing is taken for stored."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PASSWORD
from tests.standin import Fault, StandIn
from tests.standin.samples import Client
from xnat_ingest.commands.resources import files as resourcefiles
from xnat_ingest.commands.resources import put as resources
from xnat_ingest.commands.resources import target as resourceplaces
from xnat_ingest.commands.resources.listings import stored_files
from xnat_ingest.core.errors import Refused, ServerSaid, Stopped, Unreachable
from xnat_ingest.settings.layers import Credentials
from xnat_ingest.transports.bodies import TextBody
from xnat_ingest.xnat.client import XnatClient
from xnat_ingest.xnat.retry_policy import RetryPolicy

AT = "/data/experiments/XNAT_E00001"
PUT = "PUT /data/experiments/XNAT_E00001/resources/R/files"
Send = Callable[..., resources.PutOutcome]


@pytest.fixture
def rest(site: StandIn) -> Iterator[XnatClient]:
    client = Client(site.url, user="up", password=PASSWORD).login()
    session = "/data/projects/DEMO/subjects/S1/experiments/E1"
    assert client("PUT", session, xsiType="xnat:mrSessionData").status == 201
    client.close()
    rest = XnatClient(Credentials(site.url, "up", PASSWORD), retry_policy=RetryPolicy())
    rest.login()
    yield rest
    rest.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "results"
    root.mkdir()
    for number in range(6):
        (root / f"f{number}").write_bytes(bytes([number]) * 70_000)
    return root


@pytest.fixture
def send(rest: XnatClient) -> Send:
    def call(*paths: Path, overwrite: bool = False, budget: int = 20, at: str = AT) -> resources.PutOutcome:
        files = resourcefiles.gather([str(path) for path in paths]).files
        retry_policy = RetryPolicy(budget)
        return resources.send(
            rest, at, "R", files, overwrite=overwrite, retry_policy=retry_policy, check_stop=lambda: None
        )

    return call


def contents(site: StandIn) -> dict[str, bytes]:
    session = site.archived("DEMO", "S1", "E1")
    assert session is not None
    return {name: path.read_bytes() for name, path in session.resources["R"].files.items()}


def local(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in root.iterdir()}


def puts(site: StandIn) -> int:
    return sum(one.method == "PUT" and "/files/" in one.path for one in site.requests)


@pytest.mark.parametrize("single", [True, False])
@pytest.mark.parametrize(
    ("fault", "requests"),
    [
        (Fault("reset-reply", match=PUT), 1),
        (Fault("status", match=PUT, status=500, work=True), 1),
        (Fault("status", match=PUT, status=500), 2),
        (Fault("status", match=PUT, status=503), 2),
        (Fault("status", match=PUT, status=503, work=True), 1),
        (Fault("reset", match=PUT, after=66_000), 2),
        (Fault("disk-full", after=10), 2),
        (Fault("login-page", match=PUT), 2),
        (Fault("status", match=PUT, status=401), 2),
        (Fault("status", match="PUT /data/experiments/XNAT_E00001/resources/R", status=503), 1),
        (Fault("status", match="GET /data/experiments/XNAT_E00001/resources/R/files", status=503), 1),
    ],
)
def test_what_passes(site: StandIn, send: Send, folder: Path, fault: Fault, requests: int, single: bool) -> None:
    """Looked for after a lost reply, and sent again only when it is not there; leftovers on the disk are replaced."""
    one = Fault(**{name: getattr(fault, name) for name in fault.__dataclass_fields__})
    site.faults.add(one)
    sent = send(folder / "f1" if single else folder)
    wanted = {"f1": (folder / "f1").read_bytes()} if single else local(folder)
    assert one.hits == 1
    assert sent.sent == set(wanted)
    assert not sent.failed
    assert contents(site) == wanted
    assert puts(site) == requests


def test_a_later_run_continues(site: StandIn, send: Send, folder: Path) -> None:
    """What a run that ended early has left on the disk, and in no listing, is no obstacle."""
    site.faults.add(Fault("disk-full", name="f3", after=10))
    with pytest.raises(ServerSaid):
        send(folder, budget=0)
    assert contents(site) == {}
    sent = send(folder)
    assert (len(sent.sent), sent.failed, sent.different) == (6, {}, frozenset())
    assert contents(site) == local(folder)


def test_a_file_that_comes_meanwhile_is_not_overwritten(
    site: StandIn, send: Send, rest: XnatClient, folder: Path
) -> None:
    """The listing does not have it yet, the server answers with its name, and it is somebody else's."""

    def create_and_be_late(*given: Any, **more: Any) -> None:
        created(*given, **more)
        rest.request("PUT", f"{AT}/resources/R/files/f1", {"inbody": "true"}, body=TextBody("mine", "text/plain"))

    created = resources.create
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resources, "create", create_and_be_late)
        sent = send(folder)
    assert sent.different == {"f1"}
    assert len(sent.sent) == 5
    assert contents(site)["f1"] == b"mine"


@pytest.mark.wide
def test_two_at_once(site: StandIn, send: Send, folder: Path, tmp_path: Path) -> None:
    """XNAT refuses one of two that write a catalogue at once; its file is on the disk and comes into the listing."""
    site.settings.catalog_window = 0.1
    (tmp_path / "other").mkdir()
    (tmp_path / "other/g").write_bytes(b"g")
    found: list[resources.PutOutcome] = []
    threads = [threading.Thread(target=lambda at=at: found.append(send(at))) for at in (folder, tmp_path / "other")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(len(one.sent) for one in found) == 7
    assert contents(site) == local(folder) | {"g": b"g"}


def test_a_proxy_that_takes_small_bodies_only(site: StandIn, send: Send, folder: Path) -> None:
    site.faults.add(Fault("too-large", match=PUT, limit=200_000, times=None))
    (folder / "g").write_bytes(bytes(300_000))
    sent = send(folder)
    assert len(sent.sent) == 6
    assert "413" in sent.failed["g"]
    (folder / "g").unlink()
    assert contents(site) == local(folder)


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (Fault("empty", match=PUT), "does not list it"),
        (Fault("cut", name="f2", keep=100), "the server has 100 of 70000 bytes"),
        (Fault("status", match=PUT, status=400, message="Illegal file path", times=None), "Illegal file path"),
        (Fault("status", match=PUT, status=500, times=None), "500"),
    ],
)
def test_what_is_not_stored_fails(site: StandIn, send: Send, folder: Path, fault: Fault, why: str) -> None:
    one = Fault(**{name: getattr(fault, name) for name in fault.__dataclass_fields__})
    site.faults.add(one)
    sent = send(folder)
    assert why in sent.failed["f2"]
    assert "f2" not in sent.sent
    site.faults.clear()
    again = send(folder, overwrite=True)
    assert not again.failed
    assert contents(site) == local(folder)


def test_other_bytes_of_the_same_size_fail(
    site: StandIn, send: Send, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site.faults, "stored", lambda _, blocks: (bytes(len(block)) for block in blocks))
    sent = send(folder)
    assert sent.sent == {"f0"}  # the one that is all zeros
    assert all("different bytes" in why for why in sent.failed.values())


def test_a_server_that_stays_away(site: StandIn, send: Send, folder: Path) -> None:
    site.faults.add(Fault("reset", match=PUT, times=None))
    with pytest.raises(Unreachable):
        send(folder, budget=2)
    site.faults.clear()
    assert len(send(folder).sent) == 6


def test_without_the_right(site: StandIn, send: Send, folder: Path) -> None:
    """XNAT answers 200 to each file and keeps none."""
    with pytest.raises(Refused, match="owner"):
        send(folder, at="/data/projects/READONLY")
    assert puts(site) == 0


def test_a_right_that_is_lost_on_the_way(site: StandIn, send: Send, folder: Path) -> None:
    site.faults.add(Fault("status", match=PUT, status=403))
    with pytest.raises(ServerSaid) as caught:
        send(folder)
    assert caught.value.exit_code == 6


def test_files_of_another_resource_do_not_count(rest: XnatClient, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"URI": f"{AT}/resources/7/files/a", "Name": "a", "Size": "1", "digest": ""}
    rows = [{**row, "collection": "OTHER"}, {**row, "collection": "R", "URI": row["URI"] + "b", "Name": "ab"}]
    monkeypatch.setattr(rest, "rows", lambda _, pick: [pick(one) for one in rows])
    assert stored_files(rest, AT, "R") == {"ab": resources.Stored(1, "")}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("single", [True, False])
@pytest.mark.parametrize("size", [69_000, 71_000])
def test_a_file_that_changes(site: StandIn, rest: XnatClient, folder: Path, size: int, single: bool) -> None:
    """It fails, and the others of its request are sent."""
    found = resourcefiles.gather([str(folder / "f1" if single else folder)]).files
    (folder / "f1").write_bytes(bytes(size))
    sent = resources.send(rest, AT, "R", found, overwrite=False, retry_policy=RetryPolicy(), check_stop=lambda: None)
    assert sent.failed == {"f1": "the file changed while it was read"}
    assert len(sent.sent) == len(found) - 1
    (folder / "f1").unlink()
    assert contents(site) == ({} if single else local(folder))


def test_a_file_that_goes_away(site: StandIn, rest: XnatClient, folder: Path) -> None:
    found = resourcefiles.gather([str(folder)]).files
    (folder / "f1").unlink()
    packed = resourcefiles.pack("all.tar", str(folder), found)
    for files, name in ((found, "f1"), ((packed,), "all.tar")):
        sent = resources.send(
            rest, AT, "R", files, overwrite=False, retry_policy=RetryPolicy(), check_stop=lambda: None
        )
        assert list(sent.failed) == [name]
        assert "cannot be read: No such file" in sent.failed[name]
    assert contents(site) == local(folder)


def test_a_signal_ends_it_and_the_same_again_continues(
    site: StandIn, rest: XnatClient, send: Send, folder: Path
) -> None:
    moved = 0

    def progress(number: int) -> None:
        nonlocal moved
        moved += number

    def check_stop() -> None:
        if moved > 100_000:
            raise Stopped(2)

    files = resourcefiles.gather([str(folder)]).files
    with pytest.raises(Stopped):
        resources.send(
            rest, AT, "R", files, overwrite=False, retry_policy=RetryPolicy(), progress=progress, check_stop=check_stop
        )
    assert contents(site) == {}
    assert len(send(folder).sent) == 6
    assert contents(site) == local(folder)


def test_what_is_on_the_disk_and_unlisted_counts_as_a_leftover(
    site: StandIn, send: Send, rest: XnatClient, folder: Path
) -> None:
    """Nothing tells a file that was taken out of the listing and kept from what a broken-off run has left; and the
    same command must be able to go on."""
    site.project("DEMO").access["up"] = "delete"
    send(folder / "f1")
    resourceplaces.delete_files(rest, AT, "R", ["f1"], keep=True, retry_policy=RetryPolicy())
    (folder / "f1").write_bytes(b"new")
    assert len(send(folder).sent) == 6
    (disk,) = site.archive_root.rglob("f1")
    assert disk.read_bytes() == b"new"


def test_memory_holds_blocks_only(rest: XnatClient, folder: Path) -> None:
    body = resourcefiles.FilesBody(resourcefiles.gather([str(folder)]).files, {})
    blocks = [len(block) for block in body.open(lambda _: None)]
    assert sum(blocks) == body.length
    assert max(blocks) <= resourcefiles.BLOCK


@pytest.mark.parametrize("single", [True, False])
def test_a_file_that_is_rewritten_in_place(
    site: StandIn, rest: XnatClient, folder: Path, single: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its size as it was: a mix of both must not be stored as the file."""
    path = folder / "f1"
    path.write_bytes(bytes(3000))
    found = resourcefiles.gather([str(path if single else folder)]).files
    monkeypatch.setattr(resourcefiles, "BLOCK", 1000)

    def rewritten(number: int) -> None:
        if number == 1000:  # the other files are smaller
            path.write_bytes(b"x" * 3000)

    rewrite = dict(overwrite=False, retry_policy=RetryPolicy(), check_stop=lambda: None)  # noqa: C408
    sent = resources.send(rest, AT, "R", found, progress=rewritten, **rewrite)  # type: ignore[arg-type]
    assert sent.failed == {"f1": "the file changed while it was read"}
    assert "f1" not in stored_files(rest, AT, "R")
    again = resources.send(rest, AT, "R", found, **rewrite)  # type: ignore[arg-type]
    assert "f1" in again.sent | again.already
