"""The configuration service: series import filters, PET/MR handling, anonymisation scripts, applet settings."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.standin import filters
from tests.standin.model import Project
from tests.standin.tables import Reply, RestError, table, text, words

if TYPE_CHECKING:
    from tests.standin.body import Request
    from tests.standin.server import StandIn

_COLUMNS = words("tool path project user create_date reason contents unversioned version status")


def show(site: StandIn, request: Request, found: dict[str, str]) -> Reply:
    """One configuration: a table row, or with ``contents=true`` the bare text; 404, or 204 when asked for."""
    name = found.get("project")
    project = None
    if name is not None:
        # aliases do not work here: the configuration service takes ids only
        project = site.projects.get(name)
        if project is None or not site.may(request.user, project, "read"):
            raise RestError(404, f"The requested project {name} does not exist.")
    tool, path = found["tool"], found.get("rest", "")
    status, contents = _lookup(site, project, tool, path)
    bare = request.true("contents") and not request.true("meta")
    if contents is None or (bare and status == "disabled"):
        message = (
            f"Couldn't find config for user {request.user.name} and project {name or 'null'} "
            f"on tool [{tool}] path [{path}]"
        )
        if request.true("accept-not-found"):
            return Reply(204, reason=message)
        raise RestError(404, message)
    if bare:
        return text(contents)
    row = {
        "tool": tool,
        "path": path,
        "project": name or "",
        "user": "admin",
        "create_date": "2024-01-01 00:00:00.0",
        "reason": "",
        "contents": "" if request.true("meta") and not request.true("contents") else contents,
        "unversioned": "false",
        "version": "1",
        "status": status,
    }
    return table(_COLUMNS, [row], total=False, query=request.query)


def _lookup(site: StandIn, project: Project | None, tool: str, path: str) -> tuple[str, str | None]:
    """Status and contents; the settings tests change have their own places."""
    if (tool, path) == ("seriesImportFilter", "config"):
        config = project.series_filter if project else site.settings.site_filter
        # switching a filter off is a matter of the configuration's status; what the contents say is not asked
        status = "enabled" if filters.enabled(config) else "disabled"
        return status, None if config is None else json.dumps(config)
    if (tool, path) == ("separatePETMR", "config"):
        return "enabled", project.petmr if project else site.settings.site_petmr
    if tool == "anon":
        if project is not None:
            return "enabled", project.anon_script
        switch = "enabled" if site.settings.site_anonymization else "disabled"
        return switch, site.settings.config.get((tool, path))
    return "enabled", (project.config if project else site.settings.config).get((tool, path))
