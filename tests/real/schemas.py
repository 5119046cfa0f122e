"""What xnatpy asks of a server before it has an object model; it belongs into the stand-in and is lent to it here.

``GET /xapi/schemas`` is a JSON list of names, ``GET /xapi/schemas/NAME`` is XSD, ``GET /data/search/elements`` is a
table, which may be empty.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.standin import routes
from tests.standin.tables import Reply, RestError, as_json, table, text

if TYPE_CHECKING:
    from tests.standin.body import Request
    from tests.standin.server import StandIn

_COLUMNS = ["ELEMENT_NAME", "SINGULAR", "PLURAL", "SECURED", "COUNT"]


def _names(_site: StandIn, _request: Request, _: dict[str, str]) -> Reply:
    return as_json(["xnat"])


def _document(_site: StandIn, _request: Request, found: dict[str, str]) -> Reply:
    if found["schema"] != "xnat":
        raise RestError(404)
    return text(Path(__file__).with_name("xnat.xsd").read_text(), content_type="application/xml")


def _elements(_site: StandIn, request: Request, _: dict[str, str]) -> Reply:
    return table(_COLUMNS, [], title="Data-Types", query=request.query)


@pytest.fixture
def schemas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lends the stand-in the three resources."""
    lent = [("/schemas", _names), ("/schemas/(?P<schema>.+)", _document)]
    monkeypatch.setattr(routes, "_XAPI", [*routes._XAPI, *lent])
    search = (frozenset({"GET"}), re.compile("/search/elements"), _elements)
    monkeypatch.setattr(routes, "_ROUTES", [search, *routes._ROUTES])
