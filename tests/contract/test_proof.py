"""How deep the program looks at what is stored: by listings, into one instance of each kind, or into all of them."""

from __future__ import annotations

import os
import random
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydicom
import pytest

from tests.conftest import PASSWORD, Ended, Ingest
from tests.contract.test_archives import to_tar, to_tgz, to_zip
from tests.contract.test_contract import by
from tests.dicom_trees import CT, Series, make_session
from tests.dicomscu import behind_meta
from tests.standin import Fault, StandIn
from tests.standin.anonymize import new_uid
from tests.standin.samples import Client
from tests.transport_flags import TRANSPORT_FLAGS
from xnat_ingest.core.model import Instance
from xnat_ingest.delivery import read_back
from xnat_ingest.inputs import dicom_headers
from xnat_ingest.inputs.source import Source
from xnat_ingest.transports.bodies import change_since_scan
from xnat_ingest.xnat import client

SERIES = (Series("T1_0001", 20), Series("CT_0002", 4, CT), Series("SR_0003", 2, "test-SR.dcm"))
TOTAL = 26
KINDS = 3
FILES = r"GET /data/.*/files/.+\.dcm"
PLACES = ("archive", "prearchive")
# Within the pixels of the real MR and CT files, from the end.
IN_PIXELS = -500


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    make_session(tmp_path / "t/S/E", SERIES)
    return tmp_path / "t"


def reads(site: StandIn) -> list[str]:
    """The files that were read back, with repeats."""
    return [r.path for r in site.requests if re.search(FILES, f"{r.method} {r.path}")]


def corrupt(ended: Ended) -> list[str]:
    return [p["detail"] for p in ended.report["problems"] if p["kind"] == "corrupt"]


def on_disk(site: StandIn) -> list[Path]:
    return sorted(site.root.rglob("*.dcm"))


@pytest.mark.wide
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("transport", TRANSPORT_FLAGS)
def test_spot_reads_one_of_each_kind(ingest: Ingest, site: StandIn, tree: Path, transport: str, place: str) -> None:
    with by(transport, site) as (flags, _):
        plain = ingest("upload", tree, *flags, "--destination", place, "--proof", "listing")
        assert plain.report["proof"] == {"level": "listing", "read_back": 0, "bytes": 0, "skipped": [], "changed": {}}
        assert reads(site) == []
        again = ingest("upload", tree, *flags, "--destination", place, "--proof", "listing")
        looked = ingest("upload", tree, *flags, "--destination", place)
    proof = looked.report["proof"]
    assert (looked.code, looked.totals["verified"], proof["level"], proof["read_back"]) == (0, TOTAL, "spot", KINDS)
    assert proof["skipped"] == []
    assert proof["bytes"] == sum(path.stat().st_size for path in on_disk(site) if path.name in "".join(reads(site)))
    assert len(reads(site)) == len(set(reads(site))) == KINDS
    if not again.totals["bytes_sent"]:  # a row that came by DICOM is filled up once
        assert looked.totals["requests"] == again.totals["requests"] + KINDS
    assert f"{KINDS} instances" in looked.out
    verified = ingest("verify", tree, "--destination", place)
    assert (verified.code, verified.report["proof"]["read_back"]) == (0, KINDS)


@pytest.mark.wide
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("transport", TRANSPORT_FLAGS)
def test_pixels_reads_all(ingest: Ingest, site: StandIn, tree: Path, transport: str, place: str) -> None:
    with by(transport, site) as (flags, _):
        ended = ingest("upload", tree, *flags, "--destination", place, "--proof", "pixels")
    assert (ended.code, ended.totals["verified"], ended.report["proof"]["read_back"]) == (0, TOTAL, TOTAL)
    assert len(reads(site)) == TOTAL
    told = {"PatientComments"} if transport == "cstore" else set()
    assert set(ended.report["proof"]["changed"]) == told


@pytest.mark.wide
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("transport", TRANSPORT_FLAGS)
def test_a_pixel_that_is_stored_wrong(ingest: Ingest, site: StandIn, tree: Path, transport: str, place: str) -> None:
    """In the one that a spot check reads: then all of its kind are read. The listing alone sees nothing."""
    site.faults.add(Fault("flip", name="-2-1-", keep=IN_PIXELS))
    flags = ("--destination", place)
    with by(transport, site) as (way, _):
        ended = ingest("upload", tree, *way, *flags)
        assert (ended.code, ended.session("S_E")["verdict"]) == (3, "failed")
        assert (ended.totals["verified"], ended.totals["failed"]) == (TOTAL - 1, 1)
        assert len(reads(site)) == KINDS + 3
        (said,) = corrupt(ended)
        assert "(PixelData): CT_0002/IM000001;" in said.replace("S/E/", "")
        assert "--existing overwrite" in said
        assert "--proof listing" in said
        (unproven,) = ended.session("S_E")["unproven"]
        assert unproven["why"] == "stored differently from what was sent: PixelData"
        assert ingest("verify", tree, *flags).code == 3
        assert ingest("verify", tree, *flags, "--proof", "listing").code == 0
        again = ingest("upload", tree, *way, *flags, "--existing", "overwrite")
    if place == "prearchive":  # the build has moved some kinds, and a row in which they lie takes no second copy
        assert (again.code, again.kinds()) == (3, ["stale-row"])
    else:
        assert again.code == 0
        assert ingest("verify", tree, *flags, "--proof", "pixels").code == 0


@pytest.mark.wide
@pytest.mark.parametrize("place", PLACES)
def test_only_pixels_sees_every_instance(ingest: Ingest, site: StandIn, tree: Path, place: str) -> None:
    site.faults.add(Fault("flip", name="-1-17-", keep=IN_PIXELS))
    assert ingest("upload", tree, "--destination", place).code == 0
    ended = ingest("verify", tree, "--destination", place, "--proof", "pixels")
    assert (ended.code, ended.totals["failed"]) == (3, 1)
    assert "T1_0001/IM000017" in corrupt(ended)[0]


@pytest.mark.wide
@pytest.mark.parametrize("proof", ["spot", "pixels"])
def test_a_file_that_ends_too_soon_for_its_header(ingest: Ingest, site: StandIn, tree: Path, proof: str) -> None:
    """Its size is still above that of its pixels, so the listing takes it for whole."""
    site.faults.add(Fault("cut", name="-2-1-", keep=-600))
    assert ingest("upload", tree, "--proof", "listing").code == 0
    ended = ingest("verify", tree, "--proof", proof)
    assert (ended.code, ended.totals["failed"]) == (3, 1)
    assert "PixelData" in corrupt(ended)[0]


def rewrite(site: StandIn, change: Callable[[Any], object], *names: str) -> None:
    """Changes stored files behind the server's back."""
    for path in on_disk(site):
        if any(name in path.name for name in names):
            dataset = pydicom.dcmread(path)
            change(dataset)
            dataset.save_as(path)


@pytest.mark.parametrize("destination", PLACES)
def test_a_stored_file_that_has_grown_is_not_read_to_its_end(
    ingest: Ingest, site: StandIn, tmp_path: Path, destination: str
) -> None:
    """Whatever the listing says: no header of what was sent becomes so long."""
    make_session(tmp_path / "t/S/E", [Series("T1_0001", 1)])
    ingest("upload", tmp_path / "t", "--destination", destination)
    for path in on_disk(site):
        raw = path.read_bytes()
        at = raw.index(bytes.fromhex("28001000"))  # Rows
        path.write_bytes(raw[:at] + bytes.fromhex("280010004f420000f0ffffff") + bytes(32 << 20))
    ended = ingest("verify", tmp_path / "t", "--destination", destination)
    assert (ended.code, ended.totals["failed"]) == (3, 1)
    assert "Rows (many more bytes than were sent" in corrupt(ended)[0]
    assert ended.report["proof"]["bytes"] < 8 << 20


@pytest.mark.wide
def test_a_wrong_transfer_syntax(ingest: Ingest, site: StandIn, tree: Path) -> None:
    ingest("upload", tree)
    for path in on_disk(site):
        path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.2\0", 1))
    ended = ingest("verify", tree)
    assert ended.code == 3
    assert all("TransferSyntaxUID" in said for said in corrupt(ended))
    assert (ended.totals["failed"], ended.totals["verified"]) == (TOTAL, 0)


@pytest.mark.wide
def test_another_instance_under_a_name(ingest: Ingest, site: StandIn, tree: Path) -> None:
    """UIDs differ where no script can have done it."""
    ingest("upload", tree)
    rewrite(site, lambda data: setattr(data, "SOPInstanceUID", new_uid("1.2.3")), "-3-1-", "-3-2-")
    ended = ingest("verify", tree)
    assert (ended.code, ended.totals["failed"]) == (3, 2)
    assert "SOPInstanceUID" in corrupt(ended)[0]


@pytest.mark.wide
@pytest.mark.parametrize("proof", ["spot", "pixels"])
def test_a_script_may_change_what_identifies(ingest: Ingest, site: StandIn, tree: Path, proof: str) -> None:
    site.settings.site_anonymization = True
    site.settings.site_script = "name uids"
    ended = ingest("upload", tree, "--proof", proof)
    number = TOTAL if proof == "pixels" else KINDS
    assert (ended.code, ended.report["proof"]["read_back"]) == (0, number), ended.out
    changed = ended.report["proof"]["changed"]
    assert {changed[word] for word in ("PatientName", "StudyInstanceUID", "SOPInstanceUID")} == {number}
    assert "Anonymous" not in str(ended.report)


@pytest.mark.wide
def test_a_script_that_blackens_pixels(ingest: Ingest, site: StandIn, tree: Path) -> None:
    site.settings.site_anonymization = True
    site.settings.site_script = "name"
    ingest("upload", tree)
    rewrite(
        site, lambda data: setattr(data, "PixelData", bytes(len(data.PixelData))), *(f"-2-{n}-" for n in range(1, 5))
    )
    ended = ingest("verify", tree)
    assert (ended.code, ended.totals["failed"]) == (3, 4)
    assert "changes them on purpose, give --proof listing" in corrupt(ended)[0]
    assert ingest("verify", tree, "--proof", "listing").code == 0


@pytest.mark.wide
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("kind", "status", "times"), [("status", 404, 2), ("status", 502, 1), ("reset-reply", 0, 1)])
def test_a_read_that_fails_is_repeated(
    ingest: Ingest, site: StandIn, tree: Path, place: str, kind: str, status: int, times: int
) -> None:
    fault = site.faults.add(Fault(kind, FILES, status=status, times=times))
    ended = ingest("upload", tree, "--destination", place, "-w", "1")
    assert (ended.code, ended.report["proof"]["read_back"], fault.hits) == (0, KINDS, times)
    assert ended.report["proof"]["skipped"] == []


@pytest.mark.wide
@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault("status", FILES, status=403, times=None), "this user may not read files back"),
        (Fault("status", FILES, status=404, times=None), "the server does not return them"),
        (Fault("status", FILES, status=503, times=None), "503"),
        (Fault("reset", FILES, times=None), "broke"),
    ],
)
def test_what_cannot_be_read_back_is_there_all_the_same(
    ingest: Ingest, site: StandIn, tree: Path, fault: Fault, says: str
) -> None:
    """It is told, and named; asked for every pixel, the run cannot say that it saw them."""
    site.faults.add(fault)
    ended = ingest("upload", tree, "--retry-budget", "3")
    assert (ended.code, ended.totals["verified"], ended.report["proof"]["read_back"]) == (0, TOTAL, 0)
    assert sum(one["instances"] for one in ended.report["proof"]["skipped"]) == KINDS
    assert all(one["why"].startswith("not read back: ") for one in ended.report["proof"]["skipped"])
    (note,) = [p["detail"] for p in ended.report["problems"] if p["kind"] == "not-read-back"]
    assert says in note
    every = ingest("verify", tree, "--retry-budget", "3", "--proof", "pixels")
    assert (every.code, every.totals["unverified"], every.session("S_E")["verdict"]) == (3, TOTAL, "unverified")


@pytest.mark.parametrize("proof", ["spot", "pixels"])
def test_a_file_that_is_listed_and_gone_from_the_disk_is_not_there(
    ingest: Ingest, site: StandIn, tree: Path, proof: str
) -> None:
    """XNAT's catalogue still has it, with its size. Its answer tells it from a file that a proxy holds back."""
    assert ingest("upload", tree).code == 0
    sender = Client(site.url, "up", PASSWORD).login()
    resource = "/archive/projects/DEMO/subjects/S/experiments/S_E"
    assert sender("POST", "/data/services/refresh/catalog", resource=resource, options="checksum").status == 200
    gone = [path for path in on_disk(site) if re.search("-2-[1-4]-", path.name)]
    for path in gone:
        path.unlink()
    for command in ("verify", "upload"):
        ended = ingest(command, tree, "--proof", proof)
        assert (ended.code, ended.totals["failed"]) == (3, len(gone)), ended.out
        assert f"{len(gone)} files are listed, but XNAT does not find them on its disk" in corrupt(ended)[0]
    assert ingest("upload", tree, "--existing", "overwrite").code == 0
    assert ingest("verify", tree, "--proof", proof).code == 0


@pytest.mark.wide
def test_what_is_only_counted_is_not_proven_to_the_pixel(ingest: Ingest, site: StandIn, tree: Path) -> None:
    """Under the site's own names no file is known to be an instance, so none can be read back."""
    site.settings.file_name_template = "${SOPInstanceUID}"
    ended = ingest("upload", tree)
    assert (ended.code, ended.totals["counted"], ended.session("S_E")["verdict"]) == (0, TOTAL, "counted")
    for command in ("upload", "verify"):
        page = tree.parent / "page.html"
        ended = ingest(command, tree, "--proof", "pixels", "--html", str(page))
        assert (ended.code, ended.totals["counted"], ended.totals["unverified"]) == (3, 0, TOTAL)
        assert "not started" not in (ended.out + page.read_text()).casefold()
        (session,) = ended.report["sessions"]
        assert (session["verdict"], ended.kinds()) == ("unverified", ["not-read-back"])
        assert {one["why"] for one in session["unproven"]} == {f"not read back: {read_back.NAMELESS}"}
        assert f"DEMO/S/S_E: {TOTAL} instances are stored under names" in ended.report["problems"][0]["detail"]


@pytest.mark.wide
def test_a_server_that_forbids_reading_is_asked_once(ingest: Ingest, site: StandIn, tree: Path) -> None:
    site.faults.add(Fault("status", FILES, status=403, times=None))
    ingest("upload", tree, "--proof", "pixels", "-w", "1")
    assert len(reads(site)) == 1


@pytest.mark.wide
@pytest.mark.parametrize("least", [20_000, 16 * 1024])
def test_a_large_instance_is_only_begun(
    ingest: Ingest, site: StandIn, tree: Path, monkeypatch: pytest.MonkeyPatch, least: int
) -> None:
    """Also where the last byte that is read is the last of a chunk, as it is at 16 MiB."""
    monkeypatch.setattr(read_back, "SPOT_LEAST", least)
    site.faults.add(Fault("flip", name="-2-", keep=IN_PIXELS, times=None))
    ended = ingest("upload", tree, "--timeout", "5")
    assert ended.code == 0  # the pixels at its end are not looked at, and that is told
    (told,) = ended.report["proof"]["skipped"]
    assert (told["instances"], told["why"][:15]) == (1, "only the first ")
    assert ended.report["proof"]["read_back"] == KINDS
    site.faults.clear()
    rewrite(site, lambda data: setattr(data, "Rows", 64), "-2-")
    assert ingest("verify", tree).code == 3


@pytest.mark.wide
def test_a_file_that_changed_since_the_scan(
    ingest: Ingest, site: StandIn, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        read_back, "change_since_scan", lambda source, i: "gone" if "SR" in i.path else change_since_scan(source, i)
    )
    ended = ingest("upload", tree)
    assert (ended.code, ended.report["proof"]["read_back"]) == (0, KINDS - 1)
    assert ended.report["proof"]["skipped"] == [{"session": "S_E", "instances": 1, "why": "not read back: gone"}]


@pytest.mark.parametrize("flags", [(), ("--deidentify", "basic")])
@pytest.mark.parametrize("pack", [to_zip, to_tar, to_tgz])
def test_an_archive_that_is_written_over_before_it_is_read_back(
    ingest: Ingest,
    site: StandIn,
    tree: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pack: Callable[[Path, Path], object],
    flags: tuple[str, ...],
) -> None:
    """With its size and its time as they were. What is stored stays proven by the listing; that is told."""
    pack(tree / "S/E", archive := tmp_path / "t/S/E2.x")
    shutil.rmtree(tree / "S/E")

    def changed(source: Source, instance: Instance) -> str:
        status = archive.stat()
        archive.write_bytes(random.Random(1).randbytes(status.st_size))
        os.utime(archive, ns=(status.st_atime_ns, status.st_mtime_ns))
        return ""

    monkeypatch.setattr(read_back, "change_since_scan", changed)
    monkeypatch.setenv("XNAT_INGEST_DEID_KEY", "k" * 40)
    ended = ingest("upload", tree, "--proof", "pixels", *flags)
    assert ended.code == 3, ended.err
    assert ended.totals["verified"] + ended.totals["unverified"] + ended.totals["failed"] == TOTAL
    assert "unexpected" not in ended.out + ended.err
    assert sum(len(session.files) for session in site.sessions("DEMO")) == TOTAL


@pytest.mark.wide
def test_from_a_stream(ingest: Ingest, site: StandIn, tree: Path, tmp_path: Path) -> None:
    make_session(tree / "S2/E", SERIES)
    to_tgz(tree, archive := tmp_path / "t.tar.gz")
    ended = ingest("upload", archive, "--proof", "pixels")
    assert (ended.code, ended.report["proof"]["read_back"]) == (0, 2 * TOTAL)


@pytest.mark.wide
def test_nothing_is_proven_without_a_look(ingest: Ingest, tree: Path) -> None:
    assert "proof" not in ingest("upload", tree, "--no-verify").report
    assert "proof" not in ingest("plan", tree).report


@pytest.mark.wide
def test_an_ordinary_session_costs_little(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """Below two per cent of the bytes; what that leaves out is told."""
    series = tuple(Series(f"MR-{n}_{n:04}", 30) for n in range(1, 9))
    make_session(tmp_path / "t/S/E", series)
    ended = ingest("upload", tmp_path / "t")
    proof = ended.report["proof"]
    assert ended.code == 0
    assert 0 < proof["bytes"] < 0.02 * ended.totals["bytes_planned"] + 3000
    assert proof["read_back"] + sum(one["instances"] for one in proof["skipped"]) == len(series)


# -- what made this necessary: XNAT's own way of storing what it cannot parse


ODD = {
    # Noise, which deflating does not make smaller: what is stored is longer than its pixels, and looks whole.
    "deflated": Series("deflated_1", 2, "image_dfl.dcm", tags={"PixelData": random.Random(1).randbytes(512 * 512)}),
    "bare implicit": Series("implicit_2", 2, "MR_small_implicit.dcm"),
    "bare big endian": Series("big_3", 2, "MR_small_bigendian.dcm"),
}


@pytest.fixture
def as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are sent as they lie there, as this program once did, to a server that stores as XNAT 1.8 and 1.9 do."""
    judge = dicom_headers._judge

    def as_it_is(*given: Any, **more: Any) -> Any:
        found = judge(*given, **more)
        return replace(found, form="file", sent_size=0, head_size=0) if isinstance(found, Instance) else found

    monkeypatch.setattr(dicom_headers, "_judge", as_it_is)


def make_odd(folder: Path, what: str) -> Path:
    """Two odd files and two plain ones."""
    for path in make_session(folder / "S/E", (ODD[what], Series("plain_4", 2))):
        if what.startswith("bare") and "plain" not in path.parent.name:
            path.write_bytes(behind_meta(path.read_bytes()))
    return folder


@pytest.mark.wide
@pytest.mark.usefixtures("as_they_are")
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("transport", ["tar", "zip", "gradual"])
@pytest.mark.parametrize("what", ODD)
def test_what_the_server_destroys_is_seen(
    ingest: Ingest, site: StandIn, tmp_path: Path, what: str, transport: str, place: str
) -> None:
    """The listing shows names and good sizes all the same."""
    root = make_odd(tmp_path / "o", what)
    with by(transport, site) as (flags, _):
        blind = ingest("upload", root, *flags, "--destination", place, "--proof", "listing")
    assert (blind.code, blind.totals["verified"]) == (0, 4)
    ended = ingest("verify", root, "--destination", place)
    assert (ended.code, ended.totals["failed"], ended.totals["verified"]) == (3, 2, 2)
    assert re.search(r"PixelData|and all that follows", corrupt(ended)[0])


@pytest.mark.sampled(2)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("transport", TRANSPORT_FLAGS)
@pytest.mark.parametrize("what", ODD)
def test_what_is_sent_rightly_is_stored_whole(
    ingest: Ingest, site: StandIn, tmp_path: Path, what: str, transport: str, place: str
) -> None:
    root = make_odd(tmp_path / "o", what)
    with by(transport, site) as (flags, _):
        ended = ingest("upload", root, *flags, "--destination", place, "--proof", "pixels")
    assert (ended.code, ended.totals["verified"], ended.report["proof"]["read_back"]) == (0, 4, 4)


@pytest.mark.wide
def test_an_answer_that_is_cut_is_no_corrupt_file(
    ingest: Ingest, site: StandIn, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy may end an answer too soon without saying so; as many bytes as are listed must have come."""
    ask = client.XnatClient.request
    cuts: list[str] = []

    def cut(rest: client.XnatClient, method: str, path: str, *given: Any, **more: Any) -> Any:
        if re.search(FILES, f"{method} {path}") and len(cuts) < 2:
            cuts.append(path)
            take = more["read"]
            more["read"] = lambda chunks: take(iter([next(chunks)[:3000]]))
        return ask(rest, method, path, *given, **more)

    monkeypatch.setattr(client.XnatClient, "request", cut)
    ended = ingest("upload", tree, "-w", "1")
    assert (ended.code, ended.report["proof"]["read_back"], len(cuts)) == (0, KINDS, 2)
    assert len(reads(site)) == KINDS + 2


@pytest.mark.parametrize(
    ("place", "code", "kinds"), [("prearchive", 0, ["not-read-back"]), ("archive", 3, ["corrupt"])]
)
def test_an_answer_without_a_byte(
    ingest: Ingest, site: StandIn, tree: Path, monkeypatch: pytest.MonkeyPatch, place: str, code: int, kinds: list[str]
) -> None:
    """The prearchive's listing has just measured the file, so the answer is about something else. The archive's
    listing is a catalogue: there the answer may be all that is left of the file."""
    ask = client.XnatClient.request

    def nothing(rest: client.XnatClient, method: str, path: str, *given: Any, **more: Any) -> Any:
        if re.search(FILES, f"{method} {path}") and "/scans/2/" in path:
            take = more["read"]
            more["read"] = lambda chunks: take(iter([]))
        return ask(rest, method, path, *given, **more)

    monkeypatch.setattr(client.XnatClient, "request", nothing)
    ended = ingest("upload", tree, "-w", "1", "--destination", place)
    assert (ended.code, ended.kinds()) == (code, kinds), ended.out
    if place == "prearchive":
        assert "(an empty body)" in ended.out
        assert len([path for path in reads(site) if "/scans/2/" in path]) == read_back.TRIES
        every = ingest("verify", tree, "--proof", "pixels", "--destination", place)
        assert (every.code, every.totals["unverified"], every.totals["failed"]) == (3, 4, 0)
