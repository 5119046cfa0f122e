"""The DICOM receiver: what it takes, where it puts it, what it answers, and its faults."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom import uid
from pynetdicom import AE, AllStoragePresentationContexts

from tests.standin import StandIn
from tests.standin.contexts import PRIVATE_CLASSES, VERIFICATION, XNAT_SYNTAXES
from tests.standin.fixtures import site
from tests.standin.identify import Routing
from tests.standin.receiver import Receiver, ReceiverFaults, Tls
from tests.standin.samples import STUDY, dicom

__all__ = ["site"]
HERE = Path(__file__).parent.parent.parent


@contextmanager
def associated(
    port: int, syntax: str = uid.ExplicitVRLittleEndian, called: str = "XNAT", context: ssl.SSLContext | None = None
) -> Iterator[Any]:
    entity = AE("SENDER")
    entity.add_requested_context(uid.MRImageStorage, [syntax])
    entity.add_requested_context(VERIFICATION)
    tls = (context, "localhost") if context else None
    association: Any = entity.associate("127.0.0.1", port, ae_title=called, tls_args=tls)
    if association.is_established:  # else every object waits for a delayed acknowledgement
        association.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        yield association
    finally:
        if association.is_established:
            association.release()
        entity.shutdown()
        if association.dul.socket and association.dul.socket.socket:  # the library leaves it open when nothing answers
            association.dul.socket.socket.close()


def parsed(content: bytes) -> pydicom.Dataset:
    return pydicom.dcmread(BytesIO(content))


def send(port: int, contents: Iterable[bytes], **more: Any) -> list[int | None]:
    """The status of every object in order; None where there was no answer."""
    with associated(port, **more) as association:
        assert association.is_established
        found: list[int | None] = []
        for content in contents:
            found.append(association.send_c_store(parsed(content)).get("Status"))
            if found[-1] is None:
                break
        return found


def test_an_object_is_routed_by_its_headers(site: StandIn) -> None:
    """The row has no source and does not prevent the auto-commit; the namer names the file."""
    with site.receive() as receiver:
        assert send(receiver.port, [dicom(1, StudyDescription="AUTO"), dicom(2, StudyDescription="AUTO")]) == [0, 0]
    (row,) = site.rows("AUTO")
    assert (row.label, row.subject, row.status) == ("P_1", "Doe_Jane", "RECEIVING")
    assert (row.source, row.prevent_auto_commit, row.prevent_anon, row.autoarchive) == ("", False, False, "AutoArchive")
    assert sorted(name.split("-")[2] for name in row.files) == ["1", "2"]
    one = receiver.received[0]
    assert (one.calling, one.called, one.status, one.uris) == ("SENDER", "XNAT", 0, [row.url])
    assert (one.sop_class, one.sop_uid, receiver.associations) == (uid.MRImageStorage, f"{STUDY}.1.1", 1)


@pytest.mark.parametrize(
    ("more", "project", "subject", "label"),
    [
        ({"PatientComments": "Project:DEMO Subject:s Session:l"}, "DEMO", "s", "l"),
        ({"StudyComments": "x; Project: AUTO, Session:l"}, "AUTO", "Doe_Jane", "l"),
        ({"AdditionalPatientHistory": "Project:DEMO", "StudyDescription": "AUTO"}, "DEMO", "Doe_Jane", "P_1"),
        ({"StudyDescription": "nothing", "AccessionNumber": "demo-alias"}, "DEMO", "Doe_Jane", "P_1"),
        ({"StudyDescription": "Project:DEMO"}, "Unassigned", "Doe_Jane", "P_1"),
        ({"PatientID": None, "PatientName": "a b/c"}, "Unassigned", "a_b_c", "dicom_upload"),
    ],
)
def test_where_headers_lead(site: StandIn, more: dict[str, Any], project: str, subject: str, label: str) -> None:
    with site.receive() as receiver:
        assert send(receiver.port, [dicom(1, **more)]) == [0]
    (row,) = site.rows(project)
    assert (row.subject, row.label) == (subject, label)


URL = {
    "project": "(0008,1030):xnat://([^/]+)/([^/]+)/([^/]+)",
    "subject": "(0008,1030):xnat://([^/]+)/([^/]+)/([^/]+):2",
    "session": "(0010,4000):never\n(0008,1030):xnat://([^/]+)/([^/]+)/([^/]+):3 t:l r:L",
}


def test_routing_expressions_of_the_receiver_come_first(site: StandIn) -> None:
    content = dicom(1, StudyDescription="xnat://DEMO/s1/l1", PatientComments="Project:AUTO Subject:no Session:no")
    with site.receive(routing=Routing(**URL)) as receiver, site.receive() as other:
        assert send(receiver.port, [content]) == [0]
        assert send(other.port, [content]) == [0]
    assert [(row.subject, row.label) for row in site.rows("DEMO")] == [("s1", "L1")]
    assert [(row.subject, row.label) for row in site.rows("AUTO")] == [("no", "no")]


def test_routing_expressions_of_the_site_hold_for_everybody(site: StandIn) -> None:
    """They read elements behind the comments, of which the first 64 characters count, and must match them all."""
    site.settings.config[("dicom", "projectRules")] = "(0040,0280):(DEMO)x*"
    fits, long, more = "DEMO" + "x" * 60, "DEMO" + "x" * 60 + "y", "DEMO y"
    with site.receive() as receiver:
        for number, text in enumerate((fits, long, more)):
            content = dicom(1, CommentsOnThePerformedProcedureStep=text, PatientID=str(number))
            assert send(receiver.port, [content]) == [0]
    assert [row.label for row in site.rows("DEMO")] == ["0", "1"]
    assert [row.label for row in site.rows("Unassigned")] == ["2"]


@pytest.mark.parametrize(
    "syntax",
    [uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian, uid.JPEGLosslessSV1],
)
def test_the_data_set_is_stored_as_it_came(site: StandIn, syntax: str) -> None:
    """Never decoded: the pixel data of a compressed object are what they are."""
    content = dicom(1, syntax=uid.ExplicitVRLittleEndian if syntax == uid.JPEGLosslessSV1 else syntax)
    data = parsed(content)
    if syntax == uid.JPEGLosslessSV1:
        data.PixelData = b"\xfe\xff\0\xe0\0\0\0\0\xfe\xff\0\xe0\4\0\0\0jpeg"
        data["PixelData"].is_undefined_length = True
        data.file_meta.TransferSyntaxUID = uid.UID(syntax)
    with site.receive() as receiver, associated(receiver.port, syntax) as association:
        assert association.send_c_store(data).Status == 0
    (path,) = site.rows("Unassigned")[0].files.values()
    stored = pydicom.dcmread(path)
    assert (stored.file_meta.TransferSyntaxUID, stored.file_meta.SourceApplicationEntityTitle) == (syntax, "SENDER")
    assert stored.PixelData == data.PixelData
    assert receiver.received[0].syntax == syntax


@pytest.mark.wide
def test_every_storage_class_as_many_as_an_association_holds(site: StandIn) -> None:
    entity = AE()
    classes = [str(one.abstract_syntax) for one in AllStoragePresentationContexts] + list(PRIVATE_CLASSES)
    with site.receive() as receiver:
        for start in range(0, len(classes), 128):
            entity.requested_contexts = []
            for one in classes[start : start + 128]:
                entity.add_requested_context(one, [uid.JPEGLosslessSV1, uid.ImplicitVRLittleEndian])
            association = entity.associate("127.0.0.1", receiver.port, ae_title="XNAT")
            accepted = association.accepted_contexts
            association.release()
            assert len(accepted) == len(entity.requested_contexts)
            assert {one.transfer_syntax[0] for one in accepted} == {uid.ImplicitVRLittleEndian}
    entity.shutdown()


def test_fewer_syntaxes_on_demand(site: StandIn) -> None:
    with site.receive(syntaxes=XNAT_SYNTAXES) as receiver:
        with associated(receiver.port, uid.DeflatedExplicitVRLittleEndian) as association:
            assert [one.abstract_syntax for one in association.accepted_contexts] == [VERIFICATION]
        assert send(receiver.port, [dicom(1)]) == [0]


def test_echo_and_the_called_title(site: StandIn) -> None:
    with site.receive(ae_title="MINE") as receiver:
        with associated(receiver.port, called="MINE") as association:
            assert association.send_c_echo().Status == 0
        with associated(receiver.port, called="XNAT") as association:
            assert (association.is_established, association.is_rejected) == (False, True)
    with site.receive(check_title=False) as receiver, associated(receiver.port, called="ANY") as association:
        assert association.is_established


def test_what_cannot_be_stored_is_0xc000(site: StandIn) -> None:
    """Whatever the reason, with its text; the association goes on. What a filter drops is a success."""
    with site.receive() as receiver:
        site.faults.add({"kind": "disk-full", "skip": 1})
        found = send(receiver.port, [dicom(1), dicom(2), dicom(3)])
        site.settings.site_filter = {"enabled": True, "mode": "blacklist", "list": "^series"}
        assert send(receiver.port, [dicom(4)]) == [0]
    assert found == [0, 0xC000, 0]
    assert [one.message for one in receiver.received] == ["", "unable to read DICOM object null", "", ""]
    assert receiver.received[-1].uris == []
    assert len(site.rows("Unassigned")[0].files) == 3


def test_an_error_of_the_receiver_itself_is_0xa700(site: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.standin.receiver.store", lambda *_: 1 / 0)
    with site.receive() as receiver:
        assert send(receiver.port, [dicom(1)]) == [0xA700]
    assert len(site.errors) == 1
    site.errors.clear()


def test_every_third_object_is_refused(site: StandIn) -> None:
    with site.receive(faults=ReceiverFaults(refuse_every=3)) as receiver:
        assert send(receiver.port, map(dicom, range(1, 7))) == [0, 0, 0xA700, 0, 0, 0xA700]
        receiver.faults.refuse_every = 0
        assert send(receiver.port, [dicom(3), dicom(6)]) == [0, 0]
    assert len(site.rows("Unassigned")[0].files) == 6


@pytest.mark.wide
@pytest.mark.parametrize(("keeps", "stored"), [(False, 2), (True, 3)])
def test_an_association_is_aborted(site: StandIn, keeps: bool, stored: int) -> None:
    faults = ReceiverFaults(abort_after=2, abort_keeps=keeps, aborts=1)
    with site.receive(faults=faults) as receiver:
        assert send(receiver.port, map(dicom, range(1, 6))) == [0, 0, None]
        assert len(site.rows("Unassigned")[0].files) == stored
        assert [one.status for one in receiver.received] == [0, 0, None]
        assert send(receiver.port, map(dicom, range(3, 6))) == [0, 0, 0]
    assert len(site.rows("Unassigned")[0].files) == 5


def test_warnings_are_answers_to_what_is_stored(site: StandIn) -> None:
    with site.receive(faults=ReceiverFaults(warning=0xB006)) as receiver:
        assert send(receiver.port, [dicom(1)]) == [0xB006]
    assert len(site.rows("Unassigned")[0].files) == 1


@pytest.mark.wide
def test_several_associations_share_a_prearchive_session(site: StandIn) -> None:
    with site.receive() as receiver, associated(receiver.port) as first, associated(receiver.port) as second:
        for number in range(1, 11):
            association = first if number % 2 else second
            assert association.send_c_store(parsed(dicom(number))).Status == 0
    (row,) = site.rows("Unassigned")
    assert (len(row.files), receiver.associations) == (10, 2)


def test_a_receiver_that_archives_directly(site: StandIn) -> None:
    with site.receive(direct_archive=True, anonymize=False) as receiver:
        assert send(receiver.port, [dicom(1, StudyDescription="DEMO")]) == [0]
    (row,) = site.direct.rows()
    assert (row.project, row.label, row.prevent_anon, site.rows("DEMO")) == ("DEMO", "P_1", True, [])


@pytest.fixture
def certificate(tmp_path: Path) -> Tls:
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("no openssl to make a certificate with")
    made = Tls(tmp_path / "c.pem", tmp_path / "k.pem", tmp_path / "c.pem")
    command = (
        f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout {made.key} -out {made.certificate}"
    )
    subprocess.run(
        [program, *command.split(), "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True
    )
    return made


@pytest.mark.wide
def test_tls_with_and_without_a_client_certificate(site: StandIn, certificate: Tls) -> None:
    context = ssl.create_default_context(cafile=str(certificate.certificate))
    with site.receive(tls=Tls(certificate.certificate, certificate.key)) as receiver:
        assert send(receiver.port, [dicom(1)], context=context) == [0]
        with associated(receiver.port) as association:
            assert not association.is_established
    with site.receive(tls=certificate) as receiver:
        with associated(receiver.port, context=context) as association:
            assert not association.is_established
        context.load_cert_chain(certificate.certificate, certificate.key)
        assert send(receiver.port, [dicom(2)], context=context) == [0]


def test_it_binds_to_this_machine_and_closes_its_port(site: StandIn) -> None:
    with Receiver(site) as receiver, associated(receiver.port) as association:
        assert association.is_established
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", receiver.port), timeout=1)


@pytest.mark.wide
def test_in_a_process_of_its_own(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.standin", "--root", str(tmp_path), "--dicom-port", "0"]
    setup = '{"ae_title": "THERE", "routing": {"project": "(0008,0050):(.*)"}, "faults": {"refuse_every": 2}}'
    with subprocess.Popen(
        [*command, "--project", "DEMO", "--dicom", setup],
        stdout=subprocess.PIPE,
        env=os.environ | {"STANDIN_PASS": "secret"},
        text=True,
        cwd=HERE.parent,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("listening http://127.0.0.1:")
        word, address = process.stdout.readline().split()
        assert (word, address.rsplit(":", 1)[0]) == ("dicom", "127.0.0.1")
        port = int(address.rsplit(":", 1)[1])
        assert send(port, [dicom(1, AccessionNumber="DEMO")] * 2, called="THERE") == [0, 0xA700]
        process.terminate()
        assert process.wait(10) == 0
    assert len(list(tmp_path.glob("prearchive/DEMO/*/P_1/SCANS/1/DICOM/*.dcm"))) == 1
