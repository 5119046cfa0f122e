"""Archives, folders and names of a resource's files, refreshing its catalogue, and the user's cache."""

from __future__ import annotations

import gzip
import io
import json
import zipfile

import pytest

from tests.standin import StandIn
from tests.standin.fixtures import client, site
from tests.standin.samples import Client, tar
from tests.standin.writing import SESSION, archive_one, names, put

__all__ = ["client", "site"]


@pytest.fixture(autouse=True)
def _session(client: Client) -> None:
    archive_one(client)


@pytest.mark.parametrize("name", ["x.tar", "x.tgz", "x.tar.gz", "x.zip"])
def test_extract(client: Client, name: str) -> None:
    """The members keep their paths below the resource's root, whatever folder the address names."""
    members = {"d/a": b"1", "b": b"22"}
    if name.endswith("zip"):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as packed:
            for member, content in members.items():
                packed.writestr(member, content)
        body = out.getvalue()
    else:
        body = tar(members, "w" if name == "x.tar" else "w:gz")
    assert put(client, SESSION, "deep/" + name, body, extract="true").status == 200
    assert names(client, SESSION) == ["d/a", "b"]
    again = put(client, SESSION, name, body, extract="true")
    assert json.loads(again.text) == {"duplicates": ["d/a", "b"]}
    assert put(client, SESSION, name, body).text == ""
    assert names(client, SESSION) == ["d/a", "b", name]


def test_extract_of_what_is_no_archive_or_a_broken_one(client: Client) -> None:
    assert put(client, SESSION, "a.TAR", b"abc", extract="true").status == 200
    assert put(client, SESSION, "a.txt.gz", gzip.compress(b"text"), extract="true").status == 200
    assert names(client, SESSION) == ["a.TAR", "a.txt"]
    broken = put(client, SESSION, "x.tgz", tar({"a": b"1" * 5000}, "w:gz")[:60], extract="true")
    assert broken.status == 500
    assert put(client, SESSION, "x.tar", tar({"../../evil": b"1"}), extract="true").status == 400


def test_folders(client: Client) -> None:
    for name in ("d/a", "d/e/b", "c"):
        put(client, SESSION, name)
    at = SESSION + "/resources/NOTES/files"
    assert [row["Name"] for row in client("GET", at + "/d/").rows] == ["a", "b"]
    assert [row["Name"] for row in client("GET", at + "/d/", recursive="false").rows] == ["a"]
    assert client("GET", at + "/d").status == 404


def test_names_stay_encoded_unless_a_blank_is_among_them(client: Client) -> None:
    put(client, SESSION, "a%23b")
    put(client, SESSION, "c%20%23d")
    assert [row["Name"] for row in client("GET", SESSION + "/resources/NOTES/files").rows] == ["a%23b", "c #d"]
    assert client("GET", SESSION + "/resources/NOTES/files/a%23b").data == b"abc"


def test_a_lost_race_is_mended_by_a_refresh(site: StandIn, client: Client) -> None:
    put(client, SESSION, "a")
    session = site.archived("DEMO", "S1", "E1")
    assert session is not None
    folder = session.resources["NOTES"].directory
    (folder / "b").write_bytes(b"12")
    (folder / "a").unlink()
    uri = "/archive/projects/DEMO/subjects/S1/experiments/E1"
    refresh = "/data/services/refresh/catalog"
    assert client("POST", refresh, resource=uri, options="append,delete").status == 200
    assert names(client, SESSION) == ["b"]
    assert Client(site.url, user="reader")("POST", refresh, resource=uri, options="append").status == 403
    assert client("POST", refresh, resource="/archive/projects/DEMO/what", options="append").status == 400


def test_the_users_cache(site: StandIn, client: Client) -> None:
    at = "/data/user/cache/resources/X/files/d/a.txt"
    assert client("PUT", at, iter([b"ab", b"c"]), inbody="true").status == 200
    assert client("GET", at).data == b"abc"
    assert Client(site.url, user="owner")("GET", at).status == 404
    assert client("PUT", "/data/user/cache/resources/X/files", b"abc", inbody="true").status == 400
