"""Questions that do not need each other's answers are asked at the same time. On a slow line each is a round trip."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable

import pytest

from tests.scripted import Asked, Scripted, http
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
