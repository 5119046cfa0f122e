"""The container service's part of ``/xapi``: commands, their wrappers, and where a wrapper is switched on.

The plugin's two ways to refuse differ: what a method checks itself ends in **401** with a text, what is checked before
the method is called (switching on for the whole site) in an empty **403**.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.standin.commandcheck import errors_of
from tests.standin.tables import Reply, RestError, as_json, text

if TYPE_CHECKING:
    from tests.standin.body import Request
    from tests.standin.server import StandIn

_HAS_TAG = re.compile(r".+:[a-zA-Z0-9_.-]+")
_DUPLICATE = (
    "Bad request:\norg.nrg.framework.exceptions.NrgServiceRuntimeException: "
    "This command duplicates a command already in the database."
)
_DEFAULTS: dict[str, Any] = {
    "type": "docker",
    "visibility": "public",
    "mounts": [],
    "environment-variables": {},
    "ports": {},
    "inputs": [],
    "outputs": [],
    "xnat": [],
    "secrets": [],
}

Found = Mapping[str, str]


@dataclass
class Containers:
    """What the plugin keeps. ``commands`` holds the stored documents by id, wrappers in their ``xnat`` member."""

    commands: dict[int, dict[str, Any]] = field(default_factory=dict)
    site_enabled: dict[int, bool] = field(default_factory=dict)
    """Wrapper id -> what was last said for the site; a wrapper nobody spoke about is enabled."""
    project_enabled: dict[tuple[str, int], bool] = field(default_factory=dict)
    """(Project, wrapper id) -> what was last said; a wrapper nobody spoke about is disabled."""

    def enabled_for_site(self, wrapper: int) -> bool:
        return self.site_enabled.get(wrapper, True)

    def enabled_for_project(self, project: str, wrapper: int) -> bool:
        return self.enabled_for_site(wrapper) and self.project_enabled.get((project, wrapper), False)

    def wrapper_ids(self) -> dict[str, int]:
        """Wrapper name -> id, for tests."""
        return {one["name"]: one["id"] for command in self.commands.values() for one in command["xnat"]}


def xapi(site: StandIn, request: Request, path: str) -> Reply | None:
    """Answer one of the plugin's addresses; None when it is none of them or the plugin is not installed."""
    if not site.settings.container_service:
        return None
    for method, pattern, answer in _ROUTES:
        match = re.fullmatch(pattern, path)
        if match and request.method == method:
            return answer(site, request, {key: value for key, value in match.groupdict().items() if value is not None})
    if any(re.fullmatch(pattern, path) for _, pattern, _ in _ROUTES):
        raise RestError(405)
    return None


# -- rights


def _manager(request: Request) -> bool:
    """A role of its own: being a site administrator is not enough."""
    return request.user.container_manager


def _unauthorized(request: Request, why: str) -> Reply:
    return text(f"There was an error in the request : User {request.user.name} {why}.", 401)


def _managed(action: _Action) -> _Action:
    """For managers only, as the methods check it."""

    def checked(site: StandIn, request: Request, found: Found) -> Reply:
        if not _manager(request):
            return _unauthorized(request, "is not a Container Manager")
        return action(site, request, found)

    return checked


# -- commands


def _create(site: StandIn, request: Request, _: Found) -> Reply:
    """201 and the id. The image of the query replaces the document's; a missing tag becomes ``latest``."""
    command = _document(request)
    image = request.query.get("image") or command.get("image")
    if image:
        command["image"] = image if _HAS_TAG.fullmatch(image) else image + ":latest"
    with site.lock:
        if _twin(site, command):
            return text(_DUPLICATE, 400)
        if errors := errors_of(command):
            return _invalid(errors)
        number = site.numbers.next("command")
        site.containers.commands[number] = {"id": number} | command
        _number_wrappers(site, command, {})
        site.containers.commands[number]["xnat"] = command["xnat"]
    return as_json(number, 201)


def _document(request: Request) -> dict[str, Any]:
    """The command of the body. What is no JSON object at all is an error of the server, not of the request."""
    try:
        found = json.loads(request.body.all())
    except ValueError as error:
        raise _Unreadable(f"Could not read document: {error}") from error
    if not isinstance(found, dict):
        raise _Unreadable("Could not read document: not a command")
    found.pop("id", None)
    return _DEFAULTS | {key: value for key, value in found.items() if value is not None}


class _Unreadable(RestError):
    def __init__(self, message: str) -> None:
        super().__init__(500, message)


def _twin(site: StandIn, command: Mapping[str, Any]) -> bool:
    """Name, image and version are unique together; the comparison is the database's, where nothing equals null."""
    key = [command.get(name) for name in ("name", "image", "version")]
    if None in key:
        return False
    return any(
        key == [one.get(name) for name in ("name", "image", "version")] for one in site.containers.commands.values()
    )


def _invalid(errors: list[str]) -> Reply:
    return text("Invalid command:\n\t" + "\n\t".join(errors), 400)


def _number_wrappers(site: StandIn, command: dict[str, Any], known: Mapping[str, int]) -> None:
    """Give every wrapper an id; one whose name is known keeps its own."""
    command["xnat"] = [one | {"id": known.get(one["name"]) or site.numbers.next("wrapper")} for one in command["xnat"]]


def _update(site: StandIn, request: Request, found: Found) -> Reply:
    """Replaces the document; wrappers are matched by name. Nothing adds a tag to the image here."""
    number, command = int(found["command"]), _document(request)
    errors = errors_of(command)
    image = command.get("image")
    if image and not _HAS_TAG.fullmatch(image):
        name = command.get("name")
        errors.append(f'Command "{name}" - image name must include version tag. e.g. image_name:tag')
    if errors:
        return _invalid(errors)
    with site.lock:
        before = _command(site, number)
        _number_wrappers(site, command, {one["name"]: one["id"] for one in before["xnat"]})
        site.containers.commands[number] = {"id": number} | command
    return Reply()


def _command(site: StandIn, number: int) -> dict[str, Any]:
    found = site.containers.commands.get(number)
    if found is None:
        raise _Missing(f"Could not find entity with ID {number}")
    return found


class _Missing(RestError):
    def __init__(self, message: str) -> None:
        super().__init__(404, message)


def _delete(site: StandIn, _: Request, found: Found) -> Reply:
    """204, whether there was one or not."""
    with site.lock:
        site.containers.commands.pop(int(found["command"]), None)
    return Reply(204)


def _visible(request: Request, command: Mapping[str, Any]) -> bool:
    return _manager(request) or command["visibility"] != "private"


def _list(site: StandIn, request: Request, _: Found) -> Reply:
    """Any login may look; ``name``, ``version`` and ``image`` choose."""
    wanted = {key: value for key in ("name", "version", "image") if (value := request.query.get(key))}
    if "version" in wanted and "name" not in wanted:
        return text('Bad request:\nIf "version" is specified, must specify "name" as well.', 400)
    return as_json(
        [
            one
            for one in site.containers.commands.values()
            if _visible(request, one) and all(one.get(key) == value for key, value in wanted.items())
        ]
    )


def _show(site: StandIn, request: Request, found: Found) -> Reply:
    command = _command(site, int(found["command"]))
    return as_json(command) if _visible(request, command) else Reply()


# -- switching on


def _wrapper(site: StandIn, found: Found) -> int:
    """By id, which nobody checks, or by the names of the longer address."""
    if "wrapper" in found:
        return int(found["wrapper"])
    number, name = int(found["command"]), found["name"]
    if number not in site.containers.commands:
        raise _Missing(f"No command with id {number}")
    for one in site.containers.commands[number]["xnat"]:
        if name in (one["name"], str(one["id"])):
            return int(one["id"])
    raise _Missing(f"No command wrapper for command id {number}, wrapper name {name}")


def _site_state(site: StandIn, request: Request, found: Found) -> Reply:
    if not _manager(request):
        return Reply(403)
    wrapper = _wrapper(site, found)
    if request.method == "GET":
        return as_json(site.containers.enabled_for_site(wrapper))
    site.containers.site_enabled[wrapper] = found["state"] == "enabled"
    return Reply()


def _project_state(site: StandIn, request: Request, found: Found) -> Reply:
    """Managers, else editors may ask and owners may switch."""
    name = found["project"]
    level = ("edit", "Edit") if request.method == "GET" else ("delete", "Delete")
    project = site.any_project(name)
    if not _manager(request) and (project is None or not site.may(request.user, project, level[0])):
        return _unauthorized(request, f"does not have {level[1]} access")
    wrapper = _wrapper(site, found)
    kept = site.containers
    if request.method == "GET":
        report: dict[str, object] = {
            "enabled-for-site": kept.enabled_for_site(wrapper),
            "enabled-for-project": kept.enabled_for_project(name, wrapper),
            "project": name,
        }
        return as_json(report)
    kept.project_enabled[name, wrapper] = found["state"] == "enabled"
    return Reply()


def _plain(action: _Action) -> _Action:
    """The plugin's own errors are plain text, not pages."""

    def answered(site: StandIn, request: Request, found: Found) -> Reply:
        try:
            return action(site, request, found)
        except (_Missing, _Unreadable) as error:
            return text(error.message, error.status)

    return answered


_Action = Callable[["StandIn", "Request", Found], Reply]
_ONE = r"/commands/(?P<command>\d+)"
_WRAPPER = r"(?:/wrappers/(?P<wrapper>\d+)|" + _ONE + r"/wrappers/(?P<name>[^/]+))"
_PROJECT = r"/projects/(?P<project>[^/]+)"
_ROUTES: list[tuple[str, str, _Action]] = [
    (method, pattern, _plain(action))
    for method, pattern, action in (
        ("GET", "/commands", _list),
        ("POST", "/commands", _managed(_create)),
        ("GET", _ONE, _show),
        ("POST", _ONE, _managed(_update)),
        ("DELETE", _ONE, _managed(_delete)),
        ("GET", _WRAPPER + "/(?P<state>enabled)", _site_state),
        ("PUT", _WRAPPER + "/(?P<state>enabled|disabled)", _site_state),
        ("GET", _PROJECT + _WRAPPER + "/(?P<state>enabled)", _project_state),
        ("PUT", _PROJECT + _WRAPPER + "/(?P<state>enabled|disabled)", _project_state),
    )
]
