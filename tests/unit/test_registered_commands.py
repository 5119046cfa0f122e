"""The list of commands that a server answers with, as far as it can be read."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from xnat_ingest.commands.container import service
from xnat_ingest.core.errors import ServerSaid
from xnat_ingest.xnat.client import XnatClient


@pytest.mark.parametrize("number", ["1e400", "-1e400", "NaN", '"x"', "null", "[]", "{}"])
def test_a_number_that_is_none_is_no_bug_of_ours(monkeypatch: pytest.MonkeyPatch, number: str) -> None:
    reply = SimpleNamespace(text=f'[{{"id": {number}, "name": "a"}}]', status=200)
    monkeypatch.setattr(service, "ask", lambda *_, **__: reply)
    with pytest.raises(ServerSaid, match="no list of commands"):
        service.registered(cast(XnatClient, cast(Any, None)))
