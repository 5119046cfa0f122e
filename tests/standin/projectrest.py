"""Projects: listings (with the filters that tell rights), the item, its codes, its users."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tests.standin.account import group
from tests.standin.model import Project
from tests.standin.tables import Reply, RestError, Value, item, items, table, text, words

if TYPE_CHECKING:
    from tests.standin.body import Request
    from tests.standin.server import StandIn

NOT_FOUND = "Unable to find the specified experiment."
"""What XNAT says about a missing project, too."""

_SEARCH_COLUMNS = words(
    "id name description secondary_id pi project_invs project_access project_access_img insert_date insert_user"
)
_FILTERS = {"accessible", "data", "prearc_code", "owner", "member", "collaborator", "activeSince", "recent", "favorite"}
_ROLES = {"owner": "delete", "member": "edit", "collaborator": "read"}


def listing(site: StandIn, request: Request, _: dict[str, str]) -> Reply:
    """``permissions=`` beats the display-search filters, those beat the plain table."""
    visible = [one for one in site.projects.values() if site.may(request.user, one, "read")]
    if "permissions" in request.query:
        return _permitted(site, request)
    if _FILTERS & request.query.keys() or "admin" in request.query:
        return _search(site, request, visible)
    if request.query.get("restrict") in ("edit", "delete"):
        visible = [one for one in visible if site.may(request.user, one, request.query["restrict"])]
    columns = [*_columns(request, "ID secondary_ID name description pi_firstname pi_lastname"), "URI"]
    return table(columns, (_row(one) for one in visible), query=request.query)


def _columns(request: Request, default: str) -> list[str]:
    asked = request.query.get("columns")
    return asked.split(",") if asked and asked != "DEFAULT" else default.split()


def _row(project: Project) -> dict[str, Value]:
    name = project.name or project.id
    return {
        "ID": project.id,
        "secondary_ID": name,
        "name": name,
        "description": "",
        "URI": f"/data/projects/{project.id}",
    }


def _permitted(site: StandIn, request: Request) -> Reply:
    """``permissions=create|read|edit|delete|active&dataType=``: ids only, no total, lower-case columns.

    XNAT asks its group tables only, so a site administrator's own rights show through the data-admin group.
    """
    action = request.query["permissions"]
    if action not in ("create", "read", "edit", "delete", "active") or not request.query.get("dataType"):
        raise RestError(500)
    level = {"create": "edit", "edit": "edit", "active": "edit", "read": "read", "delete": "delete"}[action]
    found = [one for one in site.projects.values() if site.may(request.user, one, level)]
    rows: Iterable[dict[str, Value]] = ({"id": one.id, "secondary_id": one.name or one.id} for one in found)
    return table(["id", "secondary_id"], sorted(rows, key=lambda row: str(row["secondary_id"])), total=False)


def _search(site: StandIn, request: Request, visible: list[Project]) -> Reply:
    """The display search: lower-case columns, and the user's role in a column named after their number."""
    user = request.user
    found = visible
    roles = {_ROLES[key] for key in _ROLES if request.query.get(key, "").lower() == "true"}
    if roles:
        found = [one for one in found if one.access.get(user.name, "none") in roles]
    data = request.query.get("data", "").lower()
    if data and data not in ("writable", "readable"):
        raise RestError(500)
    if data == "writable":
        found = [one for one in found if site.may(user, one, "edit")]
    number = list(site.users).index(user.name) + 2 if user.name in site.users else 1
    role = f"user_role_{number}"
    columns = [*_SEARCH_COLUMNS, role, f"last_accessed_{number}"]
    if request.true("prearc_code"):
        columns += ["proj_quarantine", "project_prearchive_code"]
    rows: list[dict[str, Value]] = []
    for one in found:
        entry = group(one, user)
        rows.append(
            {
                "id": one.id,
                "name": one.name or one.id,
                "secondary_id": one.name or one.id,
                "project_access": "private",
                role: entry[1] if entry else "",
                "proj_quarantine": one.quarantine_code,
                "project_prearchive_code": one.code,
            }
        )
    return table(columns, rows, title="Projects", query=request.query)


def visible_project(site: StandIn, request: Request, name: str, message: str = NOT_FOUND) -> Project:
    """The project by id or alias, or 404: what a user cannot see does not exist."""
    project = site.readable(request.user, name)
    if project is None:
        raise RestError(404, message)
    return project


def show(site: StandIn, request: Request, found: dict[str, str]) -> Reply:
    project = visible_project(site, request, found["project"])
    rest = found.get("rest", "")
    if rest == "quarantine_code":
        return text(str(project.quarantine_code))
    if rest.startswith("prearchive_code"):
        return text(str(project.code))
    if rest.startswith("current_arc"):
        return text("arc001")
    if rest == "accessibility":
        return text("private")
    if rest:
        raise RestError(400)
    fields: dict[str, Value] = {
        "ID": project.id,
        "secondary_ID": project.name or project.id,
        "name": project.name or project.id,
        "active": 1,
    }
    aliases = [item("xnat:projectData_alias", {"alias": alias}, {}) for alias in project.aliases]
    return items(request.query, item("xnat:projectData", fields, {"aliases/alias": aliases}))


def change(site: StandIn, request: Request, found: dict[str, str]) -> Reply:
    """``PUT .../prearchive_code/N``; owners only."""
    project = visible_project(site, request, found["project"])
    name, _, value = found.get("rest", "").partition("/")
    if name not in ("prearchive_code", "quarantine_code") or not value.isdigit():
        raise RestError(501, "The stand-in changes nothing else about a project.")
    if not site.may(request.user, project, "delete"):
        raise RestError(403, "User account doesn't have permission to edit this project.")
    if name == "prearchive_code":
        project.code = int(value)
    else:
        project.quarantine_code = int(value)
    return Reply()


def users(site: StandIn, request: Request, found: dict[str, str]) -> Reply:
    """The members of a project by group; by default for those who may edit the project itself, its owners."""
    project = site.readable(request.user, found["project"])
    if project is None:
        raise RestError(
            404,
            f"The project ID {found['project']} does not appear to be a valid project ID. "
            "Please verify your information.",
        )
    if site.settings.restrict_user_list and not site.may(request.user, project, "delete"):
        raise RestError(403, "Access Denied: Only project owners and site managers can access user resources.")
    rows: list[dict[str, Value]] = []
    for user in site.users.values():
        entry = group(project, user)
        if entry and user.enabled:
            rows.append(
                {
                    "GROUP_ID": entry[0],
                    "displayname": entry[1],
                    "login": user.name,
                    "firstname": user.first_name,
                    "lastname": user.last_name,
                    "email": f"{user.name}@example.org",
                }
            )
    rows.sort(key=lambda row: str(row["GROUP_ID"]), reverse=True)
    columns = ["GROUP_ID", "displayname", "login", "firstname", "lastname", "email"]
    return table(columns, rows, title="Projects", query=request.query)
