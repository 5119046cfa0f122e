"""DICOM over TLS, and what its options come to."""

from __future__ import annotations

import shutil
import ssl
from pathlib import Path

import pytest

from tests.dicomscp import Scp, make_certificates
from tests.dicomscu import receiver, send, some
from xnat_ingest.core.errors import IngestError, UsageError
from xnat_ingest.settings.options import Settings, ae_title, port
from xnat_ingest.transports import ask_receiver
from xnat_ingest.transports.cstore import CStore
from xnat_ingest.transports.dicom_receiver import Receiver, receiver_of


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make certificates with")
    folder = tmp_path_factory.mktemp("tls")
    make_certificates(folder)
    return folder


def tls_scp(folder: Path, *, clients: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "scp.pem", folder / "scp.key")
    if clients:
        context.load_verify_locations(folder / "ca.pem")
        context.verify_mode = ssl.CERT_REQUIRED
    return context


@pytest.mark.wide
def test_tls(certificates: Path) -> None:
    source = some(3, size=600_000)
    with Scp(tls=tls_scp(certificates)) as scp:
        ca = str(certificates / "ca.pem")
        assert "over TLS" in ask_receiver(receiver(scp.port, ca=ca))
        assert len(send(source, scp.port, ca=ca).instances) == 3
    assert all(len(one.data) > 600_000 for one in scp.got)


def test_tls_with_a_certificate_of_ours(certificates: Path) -> None:
    ca, cert, key = (str(certificates / name) for name in ("ca.pem", "scu.pem", "scu.key"))
    with Scp(tls=tls_scp(certificates, clients=True)) as scp:
        assert send(some(1), scp.port, ca=ca, cert=cert, key=key).instances
        with pytest.raises(IngestError, match=r"dicom-tls-cert|does not start TLS"):
            ask_receiver(receiver(scp.port, ca=ca))


def test_tls_and_a_certificate_that_nobody_signed(certificates: Path) -> None:
    with Scp(tls=tls_scp(certificates)) as scp, pytest.raises(IngestError, match=r"cannot be verified.*--dicom-tls-ca"):
        ask_receiver(receiver(scp.port, ca=str(certificates / "scu.pem")))


@pytest.mark.wide
def test_tls_with_a_receiver_that_speaks_plain(certificates: Path) -> None:
    with Scp() as scp, pytest.raises(IngestError, match="does not start TLS"):
        ask_receiver(receiver(scp.port, ca=str(certificates / "ca.pem"), timeout=1.0))


def test_plain_with_a_receiver_that_wants_tls(certificates: Path) -> None:
    with Scp(tls=tls_scp(certificates)) as scp, pytest.raises(IngestError, match=r"TLS|closes|breaks"):
        ask_receiver(receiver(scp.port))


@pytest.mark.parametrize("files", [("absent.pem", "", ""), ("text.pem", "", ""), ("", "text.pem", "")])
def test_files_that_are_no_certificates(tmp_path: Path, files: tuple[str, str, str]) -> None:
    (tmp_path / "text.pem").write_text("no certificate")
    ca, cert, key = (str(tmp_path / name) if name else "" for name in files)
    with pytest.raises(UsageError, match="PEM"):
        CStore(Receiver("127.0.0.1", 1, ca=ca, cert=cert, key=key), some(0), 1, 1)


@pytest.mark.parametrize("text", ["", " ", "x" * 17, "a\\b", "é", "a\tb"])
def test_no_ae_title(text: str) -> None:
    with pytest.raises(ValueError, match="AE title"):
        ae_title(text)
    assert ae_title(" PACS 1 ") == "PACS 1"


@pytest.mark.parametrize("text", ["0", "65536", "-1", "x", ""])
def test_no_port(text: str) -> None:
    with pytest.raises(ValueError, match="port"):
        port(text)
    assert port("104") == 104


def test_the_receiver_is_at_the_server_unless_told_otherwise() -> None:
    assert receiver_of(Settings(), "https://xnat.example.org:8443/x").title == "XNAT@xnat.example.org:8104"
    there = receiver_of(Settings(dicom_host="::1", dicom_port=104, called_aet="PACS"), "https://xnat.example.org")
    assert there.title == "PACS@[::1]:104"
    with pytest.raises(UsageError, match="--dicom-host"):
        receiver_of(Settings(), "")
    with pytest.raises(UsageError, match="--dicom-tls-cert"):
        receiver_of(Settings(dicom_tls_key="key.pem"), "https://xnat.example.org")
