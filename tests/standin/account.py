"""Who am I, and what is this server: login, session, version, and the rights a client can ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from tests.standin import filters
from tests.standin.anonymize import as_text
from tests.standin.model import Project, User
from tests.standin.tables import Reply, RestError, as_json, page, text, words

if TYPE_CHECKING:
    from tests.standin.body import Request
    from tests.standin.server import StandIn


def session(_site: StandIn, request: Request, _: dict[str, str]) -> Reply:
    """The HTTP session's id as text."""
    token = "; XNAT_CSRF=" + "0" * 36 if request.query.get("CSRF", "").lower() == "true" else ""
    return text((request.session_id or "") + token)


def leave(site: StandIn, request: Request, _: dict[str, str]) -> Reply:
    site.gate.leave(request)
    return Reply()


def who(_site: StandIn, request: Request, _: dict[str, str]) -> Reply:
    return text(f"User '{request.user.name}' is logged in")


def services_auth(site: StandIn, request: Request) -> Reply:
    """``PUT|POST /data/services/auth`` with ``username=..&password=..``: open to everybody."""
    form = parse_qs(request.body.all().decode("utf-8", "replace"))

    def field(*names: str) -> str:
        return next((form[name][0] for name in names if name in form), "")

    user = site.gate.login(field("username", "j_username"), field("password", "j_password"))
    if user is None or not site.gate.admit(request, user):
        return page(401, "Authentication failed.")
    return text(request.session_id or "", reason="OK")


def version(site: StandIn, _request: Request, _: dict[str, str]) -> Reply:
    return text(site.settings.version)


def username(_site: StandIn, request: Request, _: dict[str, str]) -> Reply:
    return text(request.user.name, content_type="text/plain;charset=UTF-8")


def editable_projects(site: StandIn, request: Request, _: dict[str, str]) -> Reply:
    """The ids of the projects this user may edit, as a JSON list: the cheapest answer about rights."""
    return as_json(sorted(one.id for one in site.projects.values() if site.may(request.user, one, "edit")))


GROUPS = {"delete": ("owner", "Owners"), "edit": ("member", "Members"), "read": ("collaborator", "Collaborators")}


def group(project: Project, user: User) -> tuple[str, str] | None:
    """A user's group in a project: id (``P_member``) and display name."""
    found = GROUPS.get(project.access.get(user.name, "none"))
    return (f"{project.id}_{found[0]}", found[1]) if found else None


def groups(site: StandIn, request: Request, found: dict[str, str]) -> Reply:
    """A user's groups; only the user and administrators may ask."""
    user = _user(site, request, found["user"])
    names = [entry[0] for one in site.projects.values() if (entry := group(one, user))]
    return as_json(sorted(names + (["ALL_DATA_ADMIN"] if user.all_data else [])))


def roles(site: StandIn, request: Request, found: dict[str, str]) -> Reply:
    """A user's roles on the site as a list of names; only the user and administrators may ask."""
    user = _user(site, request, found["user"])
    held = {"Administrator": user.all_data, "ContainerManager": user.container_manager}
    return as_json([name for name, has in held.items() if has])


def profile(site: StandIn, request: Request, found: dict[str, str]) -> Reply:
    user = _user(site, request, found["user"])
    return as_json(
        {
            "username": user.name,
            "firstName": user.first_name,
            "lastName": user.last_name,
            "email": f"{user.name}@example.org",
            "enabled": user.enabled,
            "verified": True,
        }
    )


def _user(site: StandIn, request: Request, name: str) -> User:
    if name != request.user.name and not request.user.all_data:
        raise RestError(403, "Not authorized")
    user = site.users.get(name)
    if user is None:
        raise RestError(404, "User not found.")
    return user


def build_info(site: StandIn, _request: Request, _: dict[str, str]) -> Reply:
    return as_json(_build(site))


def build_property(site: StandIn, _request: Request, found: dict[str, str]) -> Reply:
    """One property, bare although typed as JSON."""
    return text(_build(site).get(found["property"], ""), content_type="application/json;charset=UTF-8")


def _build(site: StandIn) -> dict[str, str]:
    return {
        "version": site.settings.version,
        "buildNumber": "1",
        "buildDate": "Fri Jun 21 12:00:00 UTC 2024",
        "commit": "standin",
        "isNonReleaseBuild": "false",
    }


def site_config(site: StandIn, request: Request, _: dict[str, str]) -> Reply:
    """Site preferences; for administrators."""
    if not request.user.all_data:
        raise RestError(403, "Access is denied")
    return as_json(_preferences(site))


def site_preference(site: StandIn, request: Request, found: dict[str, str]) -> Reply:
    """One site preference; a text comes bare although typed as JSON. Most are for administrators."""
    if not request.user.all_data and (found["property"] not in OPEN or request.user.guest):
        raise RestError(403, "Access is denied")
    preferences = _preferences(site)
    if found["property"] not in preferences:
        raise RestError(404, f"No site configuration property named {found['property']}")
    value = preferences[found["property"]]
    if isinstance(value, str):
        return text(value, content_type="application/json;charset=UTF-8")
    return as_json(value)


OPEN = frozenset(
    words(
        "dicomFileNameTemplate sitewidePetMr enableSitewideAnonymizationScript sitewideAnonymizationScript "
        "enableSitewideSeriesImportFilter sitewideSeriesImportFilter sitewideSeriesImportFilterMode failMergeOn "
        "sessionXmlRebuilderInterval sessionXmlRebuilderRepeat scanTypeMapping"
    )
)
"""The preferences that any authenticated user may read, one by one."""


def _preferences(site: StandIn) -> dict[str, object]:
    settings = site.settings
    site_filter = settings.site_filter or {}
    return {
        "siteId": settings.site_id,
        "dicomFileNameTemplate": settings.file_name_template,
        "sessionXmlRebuilderInterval": (settings.rebuilder_interval or 300.0) / 60,
        "sessionArchiveTimeoutInterval": settings.archive_timeout,
        "uiDefaultCompressedUploaderImporter": settings.default_importer,
        "enableSitewideAnonymizationScript": settings.site_anonymization,
        "preventCrossModalityMerge": settings.prevent_cross_modality_merge,
        "sitewidePetMr": settings.site_petmr or "",
        "sitewideAnonymizationScript": as_text(settings.site_script),
        "enableSitewideSeriesImportFilter": filters.enabled(settings.site_filter),
        "sitewideSeriesImportFilter": site_filter.get("list", ""),
        "sitewideSeriesImportFilterMode": site_filter.get("mode", "blacklist"),
        "failMergeOn": settings.fail_merge_on,
        "sessionXmlRebuilderRepeat": 60000,
        "scanTypeMapping": True,
        "separateSecondaryDicomOnArchive": settings.separate_secondary,
        "requireLogin": settings.require_login,
        "requireChangeJustification": settings.require_justification,
        "checksums": settings.checksums,
    }
