"""The container service's REST API: its commands, and where their wrappers are enabled."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from xnat_ingest.commands.container.document import Command
from xnat_ingest.core import IngestError, Refused, ServerSaid
from xnat_ingest.transports.bodies import TextBody
from xnat_ingest.xnat.client import XnatClient
from xnat_ingest.xnat.replies import Reply

# The service identifies a command by these three, and refuses another one with the same three.
KEY = ("name", "image", "version")


@dataclass(frozen=True, slots=True)
class Registered:
    """A command of the service.

    number: its id in the service
    wrappers: their names. They show whether it is one of ours
    """

    number: int
    name: str
    version: str
    image: str
    wrappers: tuple[str, ...]

    def __str__(self) -> str:
        return f"command {self.number}: {self.name} {self.version}, image {self.image}"

    def is_of(self, command: Command) -> bool:
        """Whether it is a registration of this command, of any image and version. Others may use the same name."""
        names = {wrapper.get("name") for wrapper in command.get("xnat", ())}
        return self.name == command["name"] and (not names or bool(names & set(self.wrappers)))

    def is_same(self, command: Command) -> bool:
        return all(getattr(self, key) == command.get(key) for key in KEY)


def registered(rest: XnatClient) -> list[Registered]:
    """All commands of the server, by number. Raises IngestError for a server without the container service."""
    reply = ask(rest, "GET", "/xapi/commands")
    try:
        found: list[dict[str, Any]] = json.loads(reply.text)
        return sorted((_registered(one) for one in found), key=lambda one: one.number)
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError, OverflowError) as error:
        raise ServerSaid("GET /xapi/commands (no list of commands in the answer)", reply.status, "") from error


def _registered(fields: dict[str, Any]) -> Registered:
    name, image, version = (str(fields.get(key) or "") for key in KEY)
    wrappers = tuple(str(wrapper["name"]) for wrapper in fields.get("xnat") or ())
    return Registered(int(fields["id"]), name, version, image, wrappers)


def project_id(rest: XnatClient, name: str) -> str:
    """The project's id. The container service stores any name that it gets, also an alias."""
    fields = rest.item(f"/data/projects/{name}")
    if fields is None:
        raise Refused(f"project {name} does not exist on {rest.server}, or user {rest.user} may not see it")
    return str(fields["ID"])


def switch(rest: XnatClient, command: Registered, project: str = "", *, on: bool) -> None:
    """Enables or disables all wrappers of a command, and checks the result.

    project: its id, "" for the site

    Raises Refused if the user does not have the role, IngestError when the service does not do it.
    """
    where = place(project)
    for wrapper in command.wrappers:
        path = f"{_wrapper_path(command.number, wrapper, project)}/{'enabled' if on else 'disabled'}"
        ask(rest, "PUT", path, where=where)
        if is_on(rest, command, wrapper, project) is not on:
            hint = "; it is switched off for the site, see --enable-site" if on and project else ""
            raise IngestError(f"{where}: the container service took {path}, but does not show it{hint}")


def switched_off(rest: XnatClient, command: Registered, project: str = "") -> Sequence[str]:
    """The wrappers that are disabled in a project, or for the whole site."""
    return [wrapper for wrapper in command.wrappers if not is_on(rest, command, wrapper, project)]


def is_on(rest: XnatClient, command: Registered, wrapper: str, project: str = "") -> bool:
    """Whether a wrapper is enabled. The answer is a bare word for the site, and an object for a project."""
    path = f"{_wrapper_path(command.number, wrapper, project)}/enabled"
    reply = ask(rest, "GET", path, where=place(project))
    try:
        state = json.loads(reply.text)
        if isinstance(state, dict) and project and state["project"].casefold() != project.casefold():
            raise ValueError("the state in another project")
        return state["enabled-for-project"] is True if isinstance(state, dict) else state is True
    except (ValueError, KeyError, AttributeError, RecursionError) as error:
        raise ServerSaid(f"GET {path} (no state in the answer)", reply.status, "") from error


def place(project: str) -> str:
    return f"project {project}" if project else "the site"


def _wrapper_path(number: int, wrapper: str, project: str) -> str:
    return f"/xapi{f'/projects/{project}' if project else ''}/commands/{number}/wrappers/{wrapper}"


def ask(rest: XnatClient, method: str, path: str, command: Command | None = None, where: str = "") -> Reply:
    """One request. Raises Refused if the user does not have the role, IngestError without a container service."""
    body = None if command is None else TextBody(json.dumps(command), "application/json")
    reply = rest.request(method, path, body=body, accept=(200, 201, 204, 400, 401, 403, 404))
    if reply.status in (401, 403):
        role = "your account needs the Container Manager role"
        if where.startswith("project"):
            role += ", or you must own the project"
        raise Refused(f"{method} {path}: user {rest.user} is refused; {role}")
    if reply.status == 404:
        raise IngestError(f"{rest.server} has no container service: its plugin is not installed")
    return reply
