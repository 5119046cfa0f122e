"""The container service's commands, and where their wrappers are enabled."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.standin import StandIn
from tests.standin.fixtures import client, site
from tests.standin.samples import Answer, Client

__all__ = ["client", "site"]

JSON = {"Content-Type": "application/json"}
COMMAND: dict[str, Any] = {
    "name": "ingest",
    "version": "1.0",
    "image": "example/ingest:1.0",
    "command-line": "ingest",
    "xnat": [{"name": "project", "contexts": ["xnat:projectData"]}, {"name": "session"}],
}


@pytest.fixture
def manager(site: StandIn) -> Client:
    """The role is a user's own; nothing else comes with it."""
    site.user("stranger").container_manager = True
    return Client(site.url, user="stranger").login()


def post(client: Client, command: object, path: str = "/xapi/commands", **query: str) -> Answer:
    return client("POST", path, json.dumps(command), JSON, filters=query)


def read(reply: Answer) -> Any:
    assert reply.status == 200
    return json.loads(reply.text)


def test_storing_a_command(site: StandIn, manager: Client, client: Client) -> None:
    reply = post(manager, COMMAND)
    assert (reply.status, reply.text) == (201, "1")
    stored = read(client("GET", "/xapi/commands/1"))
    assert (stored["id"], stored["type"], stored["visibility"], stored["mounts"]) == (1, "docker", "public", [])
    assert [(one["id"], one["name"]) for one in stored["xnat"]] == [(1, "project"), (2, "session")]
    assert read(client("GET", "/xapi/commands")) == [stored]
    assert read(client("GET", "/xapi/commands", name="other")) == []
    assert site.containers.wrapper_ids() == {"project": 1, "session": 2}
    assert read(manager("GET", "/xapi/users/stranger/roles")) == ["ContainerManager"]
    missing = client("GET", "/xapi/commands/7")
    assert (missing.status, missing.text) == (404, "Could not find entity with ID 7")


def test_the_image_of_the_query_and_the_missing_tag(site: StandIn, manager: Client) -> None:
    assert post(manager, COMMAND, image="registry:5000/x").status == 201
    assert site.containers.commands[1]["image"] == "registry:5000/x:latest"


def test_the_same_command_again(manager: Client) -> None:
    assert post(manager, COMMAND).status == 201
    again = post(manager, COMMAND)
    assert (again.status, again.text.splitlines()[-1].endswith("duplicates a command already in the database.")) == (
        400,
        True,
    )
    assert post(manager, COMMAND | {"version": "1.1"}).status == 201
    nameless = {key: value for key, value in COMMAND.items() if key != "version"}
    assert [post(manager, nameless).status for _ in range(2)] == [201, 201]  # null is equal to nothing


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": ""}, "Command name cannot be blank."),
        ({"image": None}, 'Command "ingest" - image name cannot be blank.'),
        ({"visibility": "secret"}, "has visibility set to an unknown value."),
        ({"mounts": [{"name": "in"}, {"name": "in"}]}, 'mount name "in" is not unique.'),
        ({"outputs": [{"name": "o", "mount": "none"}]}, 'references unknown mount "none"'),
        ({"outputs": [{"name": "o", "mount": "none"}]}, 'wrapper "session" - command output "o" is not handled'),
        ({"xnat": [{"name": "a"}, {"name": "a"}]}, 'wrapper name "a" is not unique.'),
    ],
)
def test_what_validate_refuses(manager: Client, change: dict[str, Any], message: str) -> None:
    reply = post(manager, COMMAND | change)
    assert (reply.status, reply.text.partition("\n")[0]) == (400, "Invalid command:")
    assert message in reply.text


def test_a_body_that_cannot_be_read(manager: Client) -> None:
    assert manager("POST", "/xapi/commands", b"{", JSON).status == 500


def test_an_update_keeps_the_ids_of_wrappers(site: StandIn, manager: Client) -> None:
    post(manager, COMMAND)
    manager("PUT", "/xapi/projects/DEMO/wrappers/2/enabled")
    changed = COMMAND | {"command-line": "other", "xnat": [{"name": "new"}, {"name": "session"}]}
    assert (post(manager, changed, "/xapi/commands/1").status, len(site.containers.commands)) == (200, 1)
    assert site.containers.wrapper_ids() == {"new": 3, "session": 2}
    assert site.containers.commands[1]["command-line"] == "other"
    assert site.containers.enabled_for_project("DEMO", 2)
    assert post(manager, changed, "/xapi/commands/9").status == 404
    assert post(manager, changed | {"image": "x"}, "/xapi/commands/1").status == 400


def test_deleting_a_command(manager: Client) -> None:
    post(manager, COMMAND)
    assert [manager("DELETE", "/xapi/commands/1").status for _ in range(2)] == [204, 204]
    assert read(manager("GET", "/xapi/commands")) == []


def test_enabling(site: StandIn, manager: Client) -> None:
    """A new wrapper is on for the site and off for every project."""
    post(manager, COMMAND)
    for place in ("/wrappers/2", "/commands/1/wrappers/session"):
        of_site, of_project = "/xapi" + place, "/xapi/projects/DEMO" + place
        assert read(manager("GET", of_site + "/enabled")) is True
        report = {"enabled-for-site": True, "enabled-for-project": False, "project": "DEMO"}
        assert read(manager("GET", of_project + "/enabled")) == report
        assert manager("PUT", of_project + "/enabled").status == 200
        assert read(manager("GET", of_project + "/enabled"))["enabled-for-project"] is True
        assert manager("PUT", of_site + "/disabled").status == 200
        assert read(manager("GET", of_site + "/enabled")) is False
        assert read(manager("GET", of_project + "/enabled")) == report | {"enabled-for-site": False}
        assert manager("PUT", of_site + "/enabled").status == 200
        assert manager("PUT", of_project + "/disabled").status == 200
    assert manager("PUT", "/xapi/commands/1/wrappers/none/enabled").status == 404
    assert manager("PUT", "/xapi/commands/9/wrappers/session/enabled").text == "No command with id 9"


@pytest.mark.parametrize("user", ["boss", "owner", "uploader"])
def test_without_the_role(site: StandIn, manager: Client, user: str) -> None:
    """Administrators do not have it. Methods that look themselves say 401, the site's switches 403."""
    post(manager, COMMAND)
    asking = Client(site.url, user=user).login()
    for refused in (
        post(asking, COMMAND | {"version": "2"}),
        post(asking, COMMAND, "/xapi/commands/1"),
        asking("DELETE", "/xapi/commands/1"),
    ):
        why = f"There was an error in the request : User {user} is not a Container Manager."
        assert (refused.status, refused.text) == (401, why)
    refused = asking("PUT", "/xapi/wrappers/1/enabled")
    assert (refused.status, refused.text) == (403, "")
    assert asking("GET", "/xapi/wrappers/1/enabled").status == 403
    assert "ContainerManager" not in read(asking("GET", f"/xapi/users/{user}/roles"))
    allowed = user != "uploader"
    assert asking("PUT", "/xapi/projects/DEMO/wrappers/1/enabled").status == (200 if allowed else 401)
    assert asking("GET", "/xapi/projects/DEMO/wrappers/1/enabled").status == 200


def test_a_site_without_the_plugin(site: StandIn, manager: Client) -> None:
    site.settings.container_service = False
    assert post(manager, COMMAND).status == 404
    assert manager("GET", "/xapi/commands").status == 404
