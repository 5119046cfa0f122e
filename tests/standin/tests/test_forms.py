"""Imports of a form's file, and of a file from the user's cache."""

from __future__ import annotations

from typing import Any

import pytest

from tests.standin import StandIn
from tests.standin.fixtures import client, site
from tests.standin.samples import PARAMS, TAR, Answer, Client, dicom, series, tar

__all__ = ["client", "site"]


def form(*fields: tuple[str, str | None, bytes]) -> tuple[bytes, dict[str, str]]:
    body = b""
    for name, file_name, content in fields:
        more = "" if file_name is None else f'; filename="{file_name}"\r\nContent-Type: application/octet-stream'
        body += f'--B\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + content + b"\r\n"
    return body + b"--B--\r\n", {"Content-Type": "multipart/form-data; boundary=B"}


def post(client: Client, *fields: tuple[str, str | None, bytes], **query: Any) -> Answer:
    return client("POST", "/data/services/import", *form(*fields), **query)


def test_a_form_with_a_file(site: StandIn, client: Client) -> None:
    """The part's file name decides about the archive; fields are parameters, those of the query go first."""
    archive = tar(series([1, 2]))
    given = ("import-handler", None, b"DICOM-zip"), ("project", None, b"DEMO"), ("session", None, b"ignored")
    reply = post(client, *given, ("image", "C:\\x\\up.tar", archive), session="E7", subject="S7")
    row = site.rows("DEMO")[0]
    assert (reply.status, reply.text) == (200, f"/data{row.url}\r\n")
    assert (row.label, row.subject, len(row.files)) == ("E7", "S7", 2)
    assert "Unsupported format UNKNOWN" in post(client, *given, ("image", "up.TAR", archive)).text


def test_a_large_file_of_a_form_is_spooled(site: StandIn, client: Client) -> None:
    big = dicom(1, PixelData=bytes(range(256)) * 4000)
    given = {**PARAMS, "inbody": "false"}
    assert post(client, ("f", "x.tar", tar({"1.dcm": big})), **given).status == 200
    assert [path.read_bytes() for path in site.rows("DEMO")[0].files.values()] == [big]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ([("a", "1.zip", b""), ("b", "2.zip", b"")], "Importer is limited to one uploaded resource at a time."),
        ([("reference", None, b"x")], "multi-part form posts may not be used to upload files via reference."),
        ([("project", None, b"DEMO")], "Unable to identify upload format."),
    ],
)
def test_forms_that_are_refused(client: Client, fields: list[tuple[str, str | None, bytes]], message: str) -> None:
    query: dict[str, Any] = {"import-handler": "DICOM-zip"}
    reply = post(client, *fields, **query)
    assert (reply.status, reply.reason) == (400, message)


def test_a_form_that_ends_early(client: Client) -> None:
    body, headers = form(("a", "1.zip", b"x" * 100))
    query: dict[str, Any] = {"import-handler": "DICOM-zip"}
    reply = client("POST", "/data/services/import", body[:-20], headers, **query)
    assert (reply.status, "Stream ended unexpectedly" in reply.text) == (400, True)


def test_a_file_from_the_users_cache(site: StandIn, client: Client) -> None:
    address = "/user/cache/resources/X/files/up.tar"
    client("PUT", "/data" + address, tar(series([1])), TAR, inbody="true")
    given = {**PARAMS, "inbody": "false", "src": address}
    assert client("POST", "/data/services/import", **given).status == 200
    assert len(site.rows("DEMO")[0].files) == 1
    for src, status, message in (
        ("/data" + address, 400, "src uri is invalid."),
        ("/user/cache/resources/X/files/none.tar", 404, "Unknown src file."),
        ("/user/cache/resources/../files/../../x", 404, "Unknown src file."),
    ):
        reply = client("POST", "/data/services/import", **(given | {"src": src}))
        assert (reply.status, reply.reason) == (status, message)
