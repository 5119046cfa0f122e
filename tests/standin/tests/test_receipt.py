"""What the importer stores of objects that do not survive XNAT's way of storing them."""

from __future__ import annotations

import io
import zipfile

import pydicom
import pytest
from pydicom import uid
from pydicom.dataset import Dataset
from pynetdicom import AE

from tests.standin import StandIn
from tests.standin.fixtures import client, site
from tests.standin.samples import PARAMS, STUDY, Answer, Client, dicom

__all__ = ["client", "site"]

DEFLATED = uid.DeflatedExplicitVRLittleEndian


def bare(content: bytes) -> bytes:
    """A file's data set alone: no preamble, no file meta information."""
    meta = pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True).file_meta
    return content[144 + int(meta.FileMetaInformationGroupLength) :]


def zipped(content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("1.dcm", content)
    return out.getvalue()


def send(client: Client, content: bytes, how: str) -> Answer:
    """One object by one of the importers."""
    if how == "tar":
        return client.send({"1.dcm": content})
    kind, body, mime = {
        "zip": ("DICOM-zip", zipped(content), "application/zip"),
        "gradual": ("gradual-DICOM", content, "application/dicom"),
    }[how]
    given = PARAMS | {"import-handler": kind}
    return client("POST", "/data/services/import", body, {"Content-Type": mime}, **given)


def stored(site: StandIn, project: str = "DEMO") -> tuple[bytes, Dataset]:
    (row,) = site.rows(project)
    (path,) = row.files.values()
    return path.read_bytes(), pydicom.dcmread(path, force=True)


@pytest.mark.parametrize("how", ["zip", "tar", "gradual"])
def test_a_deflated_object_loses_its_pixels(site: StandIn, client: Client, how: str) -> None:
    """The header is deflated anew, and the raw stream behind it is deflated data that no reader gets to."""
    sent = dicom(1, syntax=DEFLATED)
    assert send(client, sent, how).status == 200
    raw, data = stored(site)
    assert data.file_meta.TransferSyntaxUID == DEFLATED
    assert (data.PatientName, data.SOPInstanceUID) == ("Doe^Jane", f"{STUDY}.1.1")
    assert "PixelData" not in data
    assert len(raw) > len(sent)
    assert raw.endswith(bare(sent))


@pytest.mark.wide
def test_a_deflated_object_by_dicom_fares_no_better(site: StandIn) -> None:
    sent = pydicom.dcmread(io.BytesIO(dicom(1, syntax=DEFLATED)))
    entity = AE("SENDER")
    entity.add_requested_context(uid.MRImageStorage, DEFLATED)
    with site.receive() as receiver:
        association = entity.associate("127.0.0.1", receiver.port, ae_title="XNAT")
        assert association.send_c_store(sent).Status == 0
        association.release()
    _, data = stored(site, "Unassigned")
    assert (data.file_meta.TransferSyntaxUID, data.PatientName) == (DEFLATED, "Doe^Jane")
    assert "PixelData" not in data


def test_anonymisation_drops_what_the_deflated_header_left(site: StandIn, client: Client) -> None:
    site.settings.site_anonymization = True
    sent = dicom(1, syntax=DEFLATED)
    assert client.send({"1.dcm": sent}, prevent_anon="false").status == 200
    raw, data = stored(site)
    assert (data.PatientName, "PixelData" in data) == ("Anonymous", False)
    assert bare(sent) not in raw


@pytest.mark.parametrize("how", ["zip", "tar", "gradual"])
def test_later_servers_refuse_deflated_objects(site: StandIn, client: Client, how: str) -> None:
    site.settings.version = "1.10.0"
    refused = send(client, dicom(1, syntax=DEFLATED), how)
    name = "upload.dcm" if how == "gradual" else "1.dcm"
    assert (refused.status, refused.reason) == (400, f"unable to read DICOM object {name}")
    assert site.rows("DEMO") == []


def test_a_bare_explicit_data_set_arrives_right(site: StandIn, client: Client) -> None:
    sent = dicom(7)
    assert client.send({"1.dcm": bare(sent)}).status == 200
    raw, data = stored(site)
    assert data.file_meta.TransferSyntaxUID == uid.ExplicitVRLittleEndian
    assert raw.endswith(bare(sent))
    assert data.PixelData == bytes([7]) * 128


@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian])
def test_a_bare_data_set_of_another_encoding_is_torn(site: StandIn, client: Client, syntax: str) -> None:
    """Its header is explicit little endian now, as the meta information says; from the pixels on it is what it was."""
    sent = dicom(1, syntax=syntax)
    assert client.send({"1.dcm": bare(sent)}).status == 200
    raw, _ = stored(site)
    meta = pydicom.filereader.read_file_meta_info(site.rows("DEMO")[0].files.popitem()[1])
    assert meta.TransferSyntaxUID == uid.ExplicitVRLittleEndian
    body = raw[144 + int(meta.FileMetaInformationGroupLength) :]
    explicit = bare(dicom(1))
    at = explicit.index(b"\xe0\x7f\x10\0OW")
    assert body[:at] == explicit[:at]
    rest = bare(sent)
    pixels = b"\xe0\x7f\x10\0" if syntax == uid.ImplicitVRLittleEndian else b"\x7f\xe0\0\x10"
    assert body[at:] == rest[rest.index(pixels) :]
    assert body != explicit


def test_a_bare_data_set_keeps_its_sequences(site: StandIn, client: Client) -> None:
    item = Dataset()
    item.ReferencedSOPClassUID = uid.MRImageStorage
    item.ReferencedSOPInstanceUID = "1.2.3"
    sent = dicom(1, syntax=uid.ImplicitVRLittleEndian, ReferencedStudySequence=[item])
    assert client.send({"1.dcm": bare(sent)}).status == 200
    _, data = stored(site)
    assert data.ReferencedStudySequence[0].ReferencedSOPInstanceUID == "1.2.3"
    assert data.file_meta.FileMetaInformationGroupLength > 0


def test_no_session_document_knows_a_torn_object(site: StandIn, client: Client) -> None:
    """Where the builder reads into the torn part, it has no entry for it, and archiving stops."""
    torn = bare(dicom(1, syntax=uid.ImplicitVRLittleEndian, PerformedProcedureStepStartDate="20240131"))
    uri = client.send({"1.dcm": torn, "2.dcm": dicom(2)}).text.strip()
    refused = client("POST", uri, action="commit", AA="true")
    assert refused.status == 500
    assert "Scan 1 has 1 non-DICOM (or non-parsable DICOM) files" in (refused.reason or "")
    assert site.rows("DEMO")[0].status == "ERROR"


@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian])
def test_the_anonymiser_cannot_read_a_torn_object(site: StandIn, client: Client, syntax: str) -> None:
    site.settings.site_anonymization = True
    refused = client.send({"1.dcm": bare(dicom(1, syntax=syntax))}, prevent_anon="false")
    assert (refused.status, refused.reason) == (400, "unable to read DICOM object 1.dcm")
    assert site.rows("DEMO") == []
    assert client.send({"1.dcm": bare(dicom(1))}, prevent_anon="false").status == 200


def test_later_servers_read_bare_implicit_data_sets(site: StandIn, client: Client) -> None:
    site.settings.version = "1.10.1"
    assert client.send({"1.dcm": bare(dicom(3, syntax=uid.ImplicitVRLittleEndian))}).status == 200
    _, data = stored(site)
    assert data.file_meta.TransferSyntaxUID == uid.ImplicitVRLittleEndian
    assert data.PixelData == bytes([3]) * 128


@pytest.mark.parametrize("date", ["UNKNOWN", "1/2/2020", "20"])
def test_a_study_date_that_begins_with_no_year_is_unreadable(site: StandIn, client: Client, date: str) -> None:
    """The importer asks for the date as a date, and any trouble of its own is a file it cannot read."""
    content = dicom(1, StudyDate="20200102").replace(b"20200102", date.ljust(8).encode())
    refused = client.send({"1.dcm": content})
    assert (refused.status, refused.reason) == (400, "unable to read DICOM object 1.dcm")
    assert site.rows("DEMO") == []


@pytest.mark.parametrize("date", ["00000000", "2020-01-01", ""])
def test_study_dates_that_pass(site: StandIn, client: Client, date: str) -> None:
    content = dicom(1, StudyDate="20200102").replace(b"DA\x08\x0020200102", b"DA\x0a\0" + date.ljust(10).encode())
    assert client.send({"1.dcm": content}).status == 200
    assert len(site.rows("DEMO")) == 1


@pytest.mark.parametrize(
    ("version", "limit", "shrinks"),
    [("1.10.0", 500, True), ("1.10.0", None, False), ("1.10.0", 2_000_000_000, False), ("1.9.3", 500, False)],
)
def test_later_servers_may_compress_large_files(
    site: StandIn, client: Client, version: str, limit: int | None, shrinks: bool
) -> None:
    site.settings.version, site.settings.pre_compression = version, limit
    assert client.send({"1.dcm": dicom(1)}).status == 200
    raw, data = stored(site)
    syntax = uid.JPEG2000Lossless if shrinks else uid.ExplicitVRLittleEndian
    assert data.file_meta.TransferSyntaxUID == syntax
    assert (len(raw) < len(dicom(1))) == shrinks
