"""Puts the command into an XNAT server's container service, and switches its wrappers on.

The service keeps a command by name, image and version; the same three again are refused, so what is there is updated
by its number. Wrappers are matched by name then, and stay enabled where they were.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from xnat_ingest.commands.container.document import Command
from xnat_ingest.core.errors import IngestError, Refused, ServerSaid
from xnat_ingest.transports.bodies import TextBody
from xnat_ingest.xnat.client import XnatClient
from xnat_ingest.xnat.replies import Reply

_KEY = ("name", "image", "version")


def register(rest: XnatClient, command: Command, *, site: bool, projects: tuple[str, ...]) -> Iterator[str]:
    """Registers the command, then enables its wrappers for the site and the projects: a line for each step.

    Raises Refused for lack of a role, IngestError for a server without the container service or one that refuses the
    document.
    """
    ids = [_project(rest, name) for name in projects]
    number = _number(rest, command)
    path = "/xapi/commands" if number is None else f"/xapi/commands/{number}"
    reply = _ask(rest, "POST", path, command)
    if reply.status == 400:
        raise IngestError(f"the container service refuses the command: {' '.join(reply.text.split())[:500]}")
    done = "registered" if number is None else "updated"
    number = _number(rest, command)
    if number is None:
        raise IngestError(f"the container service answered {reply.status}, but does not list the command")
    yield f"{done} command {number}: {command['name']} {command['version']}, image {command['image']}"
    wrappers = [str(wrapper["name"]) for wrapper in command.get("xnat", ())]
    for where, prefix in [("the site", "")] * site + [(f"project {name}", f"/projects/{name}") for name in ids]:
        for wrapper in wrappers:
            _enable(rest, f"/xapi{prefix}/commands/{number}/wrappers/{wrapper}/enabled", where)
        yield f"enabled for {where}: {', '.join(wrappers)}"
    off = [name for name in wrappers if not _state(rest, f"/xapi/commands/{number}/wrappers/{name}/enabled", "")]
    if off:
        yield f"switched off for the site, so that no project offers it: {', '.join(off)} (see --enable-site)"


def _project(rest: XnatClient, name: str) -> str:
    """Its id: the container service takes any name, and keeps it under that, an alias too."""
    fields = rest.item(f"/data/projects/{name}")
    if fields is None:
        raise Refused(f"project {name} does not exist on {rest.server}, or user {rest.user} may not see it")
    return str(fields["ID"])


def _number(rest: XnatClient, command: Command) -> int | None:
    """The id under which the command is kept, None when it is not."""
    reply = _ask(rest, "GET", "/xapi/commands")
    try:
        known: list[dict[str, Any]] = json.loads(reply.text)
        return next((int(k["id"]) for k in known if all(k.get(key) == command.get(key) for key in _KEY)), None)
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise ServerSaid("GET /xapi/commands (no list of commands in the answer)", reply.status, "") from error


def _enable(rest: XnatClient, path: str, where: str) -> None:
    _ask(rest, "PUT", path, where=where)
    if not _state(rest, path, where):
        hint = "; it is switched off for the site, see --enable-site" if where.startswith("project") else ""
        raise IngestError(f"{where}: the container service took {path}, but does not show it{hint}")


def _state(rest: XnatClient, path: str, where: str) -> bool:
    """Whether a wrapper is on: the answer is a bare word for the site, and an object for a project."""
    reply = _ask(rest, "GET", path, where=where)
    try:
        state = json.loads(reply.text)
        return state["enabled-for-project"] is True if isinstance(state, dict) else state is True
    except (ValueError, KeyError, RecursionError) as error:
        raise ServerSaid(f"GET {path} (no state in the answer)", reply.status, "") from error


def _ask(rest: XnatClient, method: str, path: str, command: Command | None = None, where: str = "") -> Reply:
    body = None if command is None else TextBody(json.dumps(command), "application/json")
    reply = rest.request(method, path, body=body, accept=(200, 201, 400, 401, 403, 404))
    if reply.status in (401, 403):
        role = "your account needs the Container Manager role"
        if where.startswith("project"):
            role += ", or you must own the project"
        raise Refused(f"{method} {path}: user {rest.user} is refused; {role}")
    if reply.status == 404:
        raise IngestError(f"{rest.server} has no container service: its plugin is not installed")
    return reply
