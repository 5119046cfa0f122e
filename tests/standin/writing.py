"""Writing to the archive as a test does it: the addresses of one session, one file, and what is listed."""

from __future__ import annotations

from typing import Any

from tests.standin.samples import Answer, Client, series

RAW = {"Content-Type": "application/octet-stream"}
PROJECT = "/data/projects/DEMO"
SUBJECT = PROJECT + "/subjects/S1"
SESSION = SUBJECT + "/experiments/E1"
SCAN = SESSION + "/scans/1"


def archive_one(client: Client) -> None:
    """An archived session with one scan of one object."""
    uri = client.send(series([1])).text.strip()
    assert client("POST", uri, action="commit", AA="true").status == 301


def put(client: Client, at: str, name: str, body: bytes = b"abc", label: str = "NOTES", **query: Any) -> Answer:
    address = f"{at}/resources/{label}/files/{name}"
    return client("PUT", address, body, RAW, filters={"inbody": "true", **query})


def names(client: Client, at: str, label: str = "NOTES") -> list[str]:
    return [row["URI"].partition("/files/")[2] for row in client("GET", f"{at}/resources/{label}/files").rows]
