"""What is done at the same time: questions that do not need each other's answers, and the sessions of a run."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from itertools import groupby, pairwise
from pathlib import Path

import pytest

from tests.conftest import Ingest
from tests.dicom_trees import Series, make_session
from tests.scripted import Asked, Scripted, http
from tests.standin import Exchange, Fault, StandIn
from xnat_ingest.core.errors import Refused
from xnat_ingest.settings.layers import Credentials
from xnat_ingest.xnat.client import AT_ONCE, XnatClient
from xnat_ingest.xnat.projects import fetch_project, fetch_site_settings

PROJECT = json.dumps({"items": [{"meta": {"xsi:type": "xnat:projectData"}, "data_fields": {"ID": "P1"}}]})
ROW = json.dumps({"ResultSet": {"Result": [], "totalRecords": "0"}})


def settings_of(path: str) -> bytes | None:
    """What a server answers that has no settings of its own; None for one of the settings."""
    if path.startswith("/data/JSESSION"):
        return http(200, "0123456789ABCDEF0123456789ABCDEF")
    return http(200, PROJECT) if path.startswith("/data/projects/P1?") else None


def client(answer: Callable[[Asked, socket.socket], bytes]) -> tuple[Scripted, XnatClient]:
    server = Scripted(answer)
    return server, XnatClient(Credentials(server.url, "up", "secret"), timeout=5.0)


def test_the_settings_of_a_project_are_asked_for_at_the_same_time() -> None:
    together = threading.Barrier(AT_ONCE, timeout=3)
    first = iter(range(AT_ONCE))

    def answer(asked: Asked, _: socket.socket) -> bytes:
        if known := settings_of(asked.path):
            return known
        if next(first, None) is not None:
            together.wait()
        return http(200, ROW if "prearchive/projects" in asked.path else "4")

    server, rest = client(answer)
    with server:
        found = fetch_project(rest, "P1", to_send=True)
    assert (found.id, found.prearchive_code, found.may_edit) == ("P1", "4", True)
    assert not together.broken


def test_the_settings_of_a_site_are_asked_for_at_the_same_time() -> None:
    together = threading.Barrier(2, timeout=3)

    def answer(asked: Asked, _: socket.socket) -> bytes:
        if known := settings_of(asked.path):
            return known
        together.wait()
        return http(200, "false") if "enableSitewide" in asked.path else http(204)

    server, rest = client(answer)
    with server:
        assert fetch_site_settings(rest).anonymises is False
    assert not together.broken


def test_a_missing_right_is_the_reason_whatever_else_fails() -> None:
    def answer(asked: Asked, _: socket.socket) -> bytes:
        return settings_of(asked.path) or http(403, "<h3>no</h3>")

    server, rest = client(answer)
    with server, pytest.raises(Refused, match="may read project P1 but not add sessions"):
        fetch_project(rest, "P1", to_send=True)


def test_whether_guests_are_let_in_is_asked_once() -> None:
    """Several answers at the same time can make it matter."""
    guests = 0

    def answer(asked: Asked, _: socket.socket) -> bytes:
        nonlocal guests
        if asked.path == "/data/auth" and "cookie" not in asked.headers:
            guests += 1
            server.pause(0.05)
            return http(401)
        if "prearchive" in asked.path:
            return http(200, ROW if "none" in asked.path else "4")
        return settings_of(asked.path) or http(404)

    server, rest = client(answer)
    with server:
        fetch_project(rest, "P1", to_send=True)
    assert guests == 1


def during(site: StandIn, word: str) -> list[Exchange]:
    """The requests whose path or action is this, in the order of their beginning."""
    found = (one for one in site.requests if word in (one.path.rpartition("/")[2], one.query.get("action")))
    return sorted(found, key=lambda one: one.started)


@pytest.mark.wide
def test_while_one_session_is_committed_the_next_is_sent(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """With one worker one session is sent and one is committed at a time, and a slow commit holds up nobody else."""
    for subject in ("1", "2"):
        make_session(tmp_path / "t" / subject / "E", [Series("T1_0001", 2)])
    site.faults.add(Fault("delay", "POST .*action=commit", seconds=0.1, times=None))
    ended = ingest("upload", tmp_path / "t", "-w", "1", "--part-size", "10K")
    assert ended.code == 0
    assert [one["label"] for one in ended.report["sessions"]] == ["1_E", "2_E"]
    imports, commits = during(site, "import"), during(site, "commit")
    assert (len(imports), len(commits)) == (4, 2)
    assert len(list(groupby(imports, key=lambda one: one.query["EXPT_LABEL"]))) == 2
    for together in (imports, commits):
        assert all(one.finished <= following.started for one, following in pairwise(together))
    assert imports[-1].started < commits[0].finished
