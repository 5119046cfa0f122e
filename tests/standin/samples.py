"""Small DICOM objects, tar archives and a bare client for the stand-in's own tests."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import urllib3
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

STUDY = "1.2.826.0.1.3680043.8.498.1"
TAR = {"Content-Type": "application/x-tar"}


def dicom(
    number: int = 1, *, series: int = 1, study: str = STUDY, syntax: str = ExplicitVRLittleEndian, **more: Any
) -> bytes:
    """One object of a study as file bytes; keywords set or (with None) remove elements."""
    data = Dataset()
    data.SOPClassUID = MRImageStorage
    data.SOPInstanceUID = f"{study}.{series}.{number}"
    data.StudyInstanceUID = study
    data.SeriesInstanceUID = f"{study}.{series}"
    data.SeriesNumber = series
    data.InstanceNumber = number
    data.Modality = "MR"
    data.SeriesDescription = f"series {series}"
    data.StudyDate = "20240131"
    data.StudyTime = "101112"
    data.PatientID = "P 1"
    data.PatientName = "Doe^Jane"
    data.Rows = data.Columns = 8
    data.BitsAllocated = 16
    data.PixelData = bytes([number % 256]) * 128
    for keyword, value in more.items():
        if value is None:
            delattr(data, keyword)
        else:
            setattr(data, keyword, value)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax  # type: ignore[assignment]  # a plain string is converted on assignment
    meta.MediaStorageSOPClassUID = data.get("SOPClassUID", MRImageStorage)
    meta.MediaStorageSOPInstanceUID = data.get("SOPInstanceUID", "1.2.3")
    data.file_meta = meta
    out = io.BytesIO()
    data.save_as(out, enforce_file_format=True)
    return out.getvalue()


def tar(members: Mapping[str, bytes], mode: str = "w") -> bytes:
    """A tar archive of these members."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode, format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]  # the mode is one of two
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def series(numbers: Iterable[int], **more: Any) -> dict[str, bytes]:
    """Members ``N.dcm`` holding the instances with these numbers."""
    return {f"{number}.dcm": dicom(number, **more) for number in numbers}


@dataclass
class Answer:
    """What came back."""

    status: int
    text: str
    headers: Mapping[str, str]
    reason: str | None
    data: bytes

    @property
    def rows(self) -> list[dict[str, str]]:
        import json

        found: list[dict[str, str]] = json.loads(self.text)["ResultSet"]["Result"]
        return found


@dataclass
class Client:
    """A client without opinions: no redirects followed, nothing retried."""

    url: str
    user: str = "uploader"
    password: str = "secret"
    agent: str = "standin-test/1"
    cookie: str | None = None
    pool: urllib3.PoolManager = field(default_factory=lambda: urllib3.PoolManager(maxsize=8, retries=False, timeout=10))

    def login(self) -> Client:
        self.cookie = self("POST", "/data/JSESSION").text
        return self

    def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        filters: Mapping[str, str] | None = None,
        **query: Any,
    ) -> Answer:
        query |= filters or {}
        sent = {"User-Agent": self.agent, **(headers or {})}
        if self.cookie:
            sent["Cookie"] = f"JSESSIONID={self.cookie}"
        elif self.user:
            sent |= urllib3.make_headers(basic_auth=f"{self.user}:{self.password}")
        address = self.url + path + (("&" if "?" in path else "?") + urlencode(query) if query else "")
        reply = self.pool.request(method, address, body=body, headers=sent, redirect=False)
        return Answer(reply.status, reply.data.decode("latin-1"), reply.headers, reply.reason, reply.data)

    def send(self, members: Mapping[str, bytes], **query: Any) -> Answer:
        """Import members as a tar, with the parameters an uploader gives."""
        return self("POST", "/data/services/import", tar(members), TAR, **(PARAMS | query))

    def close(self) -> None:
        self.pool.clear()


PARAMS: dict[str, Any] = {
    "import-handler": "DICOM-zip",
    "inbody": "true",
    "PROJECT_ID": "DEMO",
    "SUBJECT_ID": "S1",
    "EXPT_LABEL": "E1",
    "rename": "true",
    "prevent_auto_commit": "true",
    "SOURCE": "uploader",
}
