"""The DICOM receiver, from the options of the group DICOM."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from xnat_ingest.core import UsageError
from xnat_ingest.settings.options import ReceiverSettings


@dataclass(frozen=True, slots=True)
class Receiver:
    """called, calling: AE titles.
    route: which element carries project, subject and session.
    ca, cert, key: PEM files, "" for none.
    timeout: seconds without progress.
    """

    host: str
    port: int
    called: str = "XNAT"
    calling: str = "XNAT_INGEST"
    route: str = "comments"
    ca: str = ""
    cert: str = ""
    key: str = ""
    timeout: float = 60.0

    @property
    def title(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.called}@{host}:{self.port}"

    @property
    def has_tls(self) -> bool:
        return bool(self.ca or self.cert or self.key)


def receiver_of(settings: ReceiverSettings, server: str) -> Receiver:
    """The receiver from the settings. server: XNAT's address; its host is the default."""
    host = settings.dicom_host or (urlsplit(server).hostname if server else "")
    if not host:
        raise UsageError("no DICOM receiver: give --dicom-host HOST, or --server URL")
    if settings.dicom_tls_key and not settings.dicom_tls_cert:
        raise UsageError("--dicom-tls-key needs the certificate that it belongs to: give --dicom-tls-cert FILE")
    return Receiver(
        host,
        settings.dicom_port,
        settings.called_aet,
        settings.calling_aet,
        settings.route,
        settings.dicom_tls_ca,
        settings.dicom_tls_cert,
        settings.dicom_tls_key,
        settings.timeout,
    )
