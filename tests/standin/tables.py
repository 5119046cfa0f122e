"""Answers in XNAT's shapes: JSON tables and items, and the small HTML page of Restlet's status service."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PHRASES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    409: "Conflict",
    413: "Request Entity Too Large",
    417: "Expectation Failed",
    422: "Unprocessable Entity",
    423: "Locked",
    429: "Too Many Requests",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}

DEFAULT_MESSAGES = {
    400: "The request could not be understood by the server due to malformed syntax",
    401: "The request requires user authentication",
    403: "The server understood the request, but is refusing to fulfill it",
    404: "The server has not found anything matching the request URI",
    405: "The method specified in the request is not allowed for the resource identified by the request URI",
    409: "The request could not be completed due to a conflict with the current state of the resource",
    500: "The server encountered an unexpected condition which prevented it from fulfilling the request",
    501: "The server does not support the functionality required to fulfill the request",
}


def words(listing: str) -> list[str]:
    """A list of column names, written as one line."""
    return listing.split()


Value = str | int | float | bool | None


@dataclass
class Reply:
    """What goes back to the client; ``file`` is streamed from disk."""

    status: int = 200
    body: bytes = b""
    content_type: str | None = None
    headers: list[tuple[str, str]] = field(default_factory=list)
    reason: str | None = None
    file: Path | None = None
    close: bool = False


class RestError(Exception):
    """An error status with the text of XNAT's own message."""

    def __init__(self, status: int, message: str | None = None) -> None:
        super().__init__(message or DEFAULT_MESSAGES.get(status, PHRASES.get(status, "")))
        self.status = status
        self.message = str(self.args[0])


def text(body: str, status: int = 200, content_type: str | None = "text/plain", **more: Any) -> Reply:
    return Reply(status, body.encode(), content_type, **more)


def page(status: int, message: str) -> Reply:
    """An error without an entity, as Restlet's status service renders it; the reason phrase is the message too."""
    body = (
        "<html>\n<head>\n   <title>Status page</title>\n</head>\n<body>\n"
        f"<h3>{html.escape(message, quote=False)}</h3>"
        '<p>You can get technical details <a href="http://www.w3.org/Protocols/rfc2616/rfc2616-sec10.html'
        f'#sec10.{status // 100}.{status % 100 + 1}">here</a>.<br>\n'
        'Please continue your visit at our <a href="/">home page</a>.\n</p>\n</body>\n</html>\n'
    )
    return Reply(status, body.encode(), "text/html;charset=ISO-8859-1", reason=_one_line(message))


def _one_line(message: str) -> str:
    """A reason phrase must be one line of Latin-1."""
    return re.sub(r"[\r\n]+", " ", message).encode("latin-1", "replace").decode("latin-1")


def table(
    columns: Sequence[str],
    rows: Iterable[Mapping[str, Value]],
    *,
    title: str | None = None,
    total: bool = True,
    uri_meta: bool = False,
    query: Mapping[str, str] | None = None,
) -> Reply:
    """A JSON table: every value a string, absent ones empty; CSV when ``format=csv`` was asked for.

    Some resources leave out ``totalRecords`` (the prearchive's do); file lists carry ``Columns``.
    """
    found = [{name: _string(row.get(name)) for name in columns} for row in rows]
    query = query or {}
    if sort := query.get("sortBy"):
        keys = [key for key in sort.split(",") if key in columns]
        found.sort(key=lambda row: [row[key] for key in keys], reverse=query.get("sortOrder", "").upper() == "DESC")
    if query.get("format") == "csv":
        return _csv(columns, found)
    result: dict[str, object] = {}
    if uri_meta:
        result["Columns"] = [{"key": "URI", "serverRoot": ""}]
    result["Result"] = found
    if title is not None:
        result["title"] = title
    if total:
        result["totalRecords"] = str(len(found))
    return as_json({"ResultSet": result})


def _csv(columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> Reply:
    lines = [",".join(columns)]
    lines += [",".join('"' + row[name].replace('"', '""') + '"' for name in columns) for row in rows]
    return text("\n".join(lines) + "\n", content_type="text/csv")


def _string(value: Value) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def as_json(value: object, status: int = 200) -> Reply:
    return Reply(status, json.dumps(value).encode(), "application/json")


def item(
    xsi_type: str, fields: Mapping[str, Value], children: Mapping[str, Sequence[dict[str, Any]]]
) -> dict[str, Any]:
    """One item of the item envelope; empty fields do not appear."""
    return {
        "children": [{"field": name, "items": list(items)} for name, items in children.items() if items],
        "meta": {"xsi:type": xsi_type, "isHistory": False, "start_date": "Mon Jan 01 00:00:00 UTC 2024"},
        "data_fields": {name: value for name, value in fields.items() if value not in (None, "")},
    }


def items(query: Mapping[str, str], found: dict[str, Any]) -> Reply:
    """An item: JSON with ``format=json`` only, an ``Accept`` header does not do it; else XML (a stub)."""
    if query.get("format") == "json":
        return as_json({"items": [found]})
    kind = found["meta"]["xsi:type"].removeprefix("xnat:").removesuffix("Data")
    attributes = "".join(f' {name}="{html.escape(str(value))}"' for name, value in found["data_fields"].items())
    document = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<xnat:{kind}{attributes} xmlns:xnat="http://nrg.wustl.edu/xnat"/>\n'
    )
    return text(document, content_type="text/xml")
