"""C-STORE to real receivers: what they keep is what was sent, and what they refuse is told."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pydicom
import pytest
from pydicom.dataset import Dataset

from tests.contract.test_cstore import MISLEADING, PLAIN_CLASSES
from tests.dicom_trees import SAMPLES, Memory
from tests.dicomscp import make_certificates
from tests.dicomscu import TEXT, behind_meta, instances, made, plain, session
from tests.real.receivers import Apart, Orthanc, StoreScp, apart
from xnat_ingest.core.errors import Refused, Unreachable
from xnat_ingest.core.model import Instance, Receipt
from xnat_ingest.inputs.dicom_headers import scan
from xnat_ingest.transports import ask_receiver
from xnat_ingest.transports.bodies import Part
from xnat_ingest.transports.cstore import CStore
from xnat_ingest.transports.dicom_receiver import Receiver

pytestmark = pytest.mark.real
COMMENTS, STUDY_DESCRIPTION = 0x00104000, 0x00081030
NUMBERS = {"AT", "FD", "FL", "OB", "OD", "OF", "OL", "OW", "SL", "SS", "UL", "UN", "US"}
# Two files with one UID, of a dose in RLE; storescp takes them.
REFUSED_BY_ORTHANC = {"1.9.999.999.99.9.9999.9999.20030818153516"}
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"


@pytest.fixture(scope="module")
def there() -> Iterator[Apart]:
    place = apart()
    yield place
    place.close()


@pytest.fixture
def orthanc(there: Apart, tmp_path: Path) -> Iterator[Orthanc]:
    with Orthanc(there, tmp_path).running() as running:
        yield running


@pytest.fixture
def store_scp(there: Apart, tmp_path: Path) -> Callable[..., Any]:
    return lambda *more: StoreScp(there, tmp_path, *more).running()


def transport(source: Memory, to: Orthanc | StoreScp, **more: Any) -> CStore:
    receiver = Receiver("127.0.0.1", to.port, **{"called": to.title, "timeout": 10.0, **more})
    return CStore(receiver, source, 1 << 27, 4)


def send(there: Apart, source: Memory, to: Orthanc | StoreScp, **more: Any) -> Receipt:
    """All of the source, in one part."""
    members = instances(source)
    way = transport(source, to, **more)
    return there(lambda: way.send(session(members), Part(members), lambda _: None))


def real_files() -> list[Memory]:
    """All of pydicom's files that can be sent, in batches in which no two have the same UID."""
    batches: list[tuple[set[str], dict[str, bytes]]] = []
    for path in sorted(SAMPLES.rglob("*")):
        if not path.is_file() or path.name == MISLEADING:
            continue
        raw = path.read_bytes()
        for one in scan(Memory({"file": raw}), lambda _: None):
            if not isinstance(one, Instance):
                continue
            batch = next((batch for batch in batches if one.sop_uid not in batch[0]), None)
            if batch is None:
                batches.append(batch := (set(), {}))
            batch[0].add(one.sop_uid)
            batch[1][str(path.relative_to(SAMPLES))] = raw
    return [Memory(files) for _, files in batches]


def elements(dataset: Dataset, *but: int) -> list[Any]:
    """Elements as they are encoded, sequences taken apart; without some, without group lengths and padding: receivers
    write sequences, groups and the ends of texts anew, each in its own way."""
    held = {tag: cast("Any", dataset.get_item(tag)) for tag in sorted(map(int, dataset.keys()))}  # nothing decoded yet
    found: list[Any] = []
    for tag, raw in held.items():
        if tag & 0xFFFF == 0 or tag in but:
            continue
        vr = dataset[tag].VR
        if vr == "SQ":
            found.append((tag, [elements(item) for item in dataset[tag].value]))
        elif isinstance(raw.value, bytes):
            found.append((tag, raw.value if vr in NUMBERS else raw.value.rstrip(b" \0")))
        else:  # the library decodes character sets by itself
            found.append((tag, b"" if raw.value is None else str(raw.value)))
    return found


def read(raw: bytes) -> Dataset:
    return pydicom.dcmread(io.BytesIO(raw), force=True)


@pytest.mark.filterwarnings("ignore:Invalid value for VR:UserWarning")  # real files have such values
@pytest.mark.parametrize("route", ["comments", "study-description", "none"])
def test_orthanc_keeps_every_real_file_element_by_element(there: Apart, orthanc: Orthanc, route: str) -> None:
    tag, text = {"comments": (COMMENTS, TEXT), "study-description": (STUDY_DESCRIPTION, "xnat://DEMO/007/007_pre")}.get(
        route, (0, "")
    )
    syntaxes: set[str] = set()
    refused: dict[str, str] = {}
    total = 0
    for source in real_files():
        receipt = send(there, source, orthanc, route=route)
        refused |= receipt.refused
        kept = orthanc.files()
        assert set(kept) == {i.sop_uid for i in receipt.instances}
        for instance in receipt.instances:
            before, after = read(source.contents[instance.path]), read(kept[instance.sop_uid])
            if instance.transfer_syntax:
                assert after.file_meta.TransferSyntaxUID == instance.sent_syntax
            assert elements(after, tag) == elements(before, tag), instance.path
            if tag:
                assert str(after[tag].value) == text
            syntaxes.add(str(after.file_meta.TransferSyntaxUID))
            total += 1
        orthanc.clear()
    assert set(refused) == REFUSED_BY_ORTHANC
    assert total > 90
    assert len(syntaxes) >= 10


@pytest.mark.parametrize("route", ["comments", "none"])
def test_storescp_keeps_every_real_file(there: Apart, store_scp: Callable[..., Any], route: str) -> None:
    """Without routing bit by bit."""
    with store_scp() as scp:
        for source in real_files():
            receipt = send(there, source, scp, route=route)
            assert receipt.refused == {}
            kept = {behind_meta(raw) for raw in scp.files()}
            assert len(receipt.instances) == len(kept) == len(source.contents)
            if route == "none":
                assert kept == {plain(source, i) for i in instances(source)}
            else:
                assert all(TEXT.encode() in data for data in kept)
            for path in scp.kept.iterdir():
                path.unlink()


def many_kinds() -> Memory:
    """140 kinds of objects: 70 SOP classes, each in two transfer syntaxes."""
    pairs = [(sop_class, syntax) for sop_class in PLAIN_CLASSES[:70] for syntax in (EXPLICIT, IMPLICIT)]
    return Memory({f"{n:03}": made(n, sop_class=uid, syntax=syntax) for n, (uid, syntax) in enumerate(pairs)})


def test_more_contexts_than_one_association_takes(
    there: Apart, orthanc: Orthanc, store_scp: Callable[..., Any]
) -> None:
    source = many_kinds()
    with store_scp() as scp:
        for to in (orthanc, scp):
            receipt = send(there, source, to)
            assert receipt.refused == {}
            assert len(receipt.instances) == 140
            assert len(to.files()) == 140


def test_parts_in_parallel(there: Apart, orthanc: Orthanc) -> None:
    source = Memory({f"{n:03}": made(n, size=100_000) for n in range(1, 61)})
    members = instances(source)
    way = transport(source, orthanc)

    def send_all() -> Sequence[Receipt]:
        with ThreadPoolExecutor(4) as pool:  # its threads are in the network of the one that begins them
            parts = [Part(members[at::4]) for at in range(4)]
            return list(pool.map(lambda part: way.send(session(members), part, lambda _: None), parts))

    assert sum(len(receipt.instances) for receipt in there(send_all)) == 60
    kept = orthanc.files()
    assert {uid: read(raw).PatientComments for uid, raw in kept.items()} == {i.sop_uid: TEXT for i in members}
    assert all(len(read(raw).PixelData) == 100_000 for raw in kept.values())


def test_a_wrong_called_title(there: Apart, orthanc: Orthanc) -> None:
    source = Memory({"file": made(1)})
    with pytest.raises(Refused, match=r"Called AE title not recognised.*-aec"):
        send(there, source, orthanc, called="XNAT")
    assert orthanc.files() == {}


def test_echo(there: Apart, orthanc: Orthanc, store_scp: Callable[..., Any]) -> None:
    with store_scp() as scp:
        for to in (orthanc, scp):
            receiver = Receiver("127.0.0.1", to.port, called=to.title, timeout=10.0)
            assert "answers C-ECHO" in there(lambda: ask_receiver(receiver))  # noqa: B023 - called at once


def test_a_disk_that_takes_no_more(there: Apart, store_scp: Callable[..., Any]) -> None:
    """storescp answers 0xA700 when it cannot write."""
    source = Memory({"file": made(1)})
    with store_scp() as scp:
        assert send(there, source, scp).instances
        shutil.rmtree(scp.kept)
        with pytest.raises(Unreachable, match="0xA700"):
            send(there, source, scp)


@pytest.mark.parametrize("when", ["--abort-after", "--abort-during"])
def test_a_receiver_that_aborts(there: Apart, store_scp: Callable[..., Any], when: str) -> None:
    """Behind each object, or in the middle of it."""
    source = Memory({f"{n}": made(n, size=200_000) for n in range(1, 6)})
    with store_scp(when) as scp, pytest.raises(Unreachable, match=r"abort|break|close"):
        send(there, source, scp)


def test_a_receiver_that_rejects(there: Apart, store_scp: Callable[..., Any]) -> None:
    with store_scp("--refuse") as scp, pytest.raises((Refused, Unreachable), match="rejects the association"):
        send(there, Memory({"file": made(1)}), scp)


def test_tls(there: Apart, store_scp: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    """DCMTK's, with certificates on both sides."""
    folder = tmp_path_factory.mktemp("certificates")
    make_certificates(folder)
    ca, cert, key = (str(folder / name) for name in ("ca.pem", "scu.pem", "scu.key"))
    source = Memory({f"{n}": made(n, size=200_000) for n in range(1, 4)})
    with store_scp("+tls", str(folder / "scp.key"), str(folder / "scp.pem"), "+cf", ca) as scp:
        assert len(send(there, source, scp, ca=ca, cert=cert, key=key).instances) == 3
        assert len(scp.files()) == 3
