"""The project as the server knows it: its real id, the user's right on it, the settings that matter to an upload."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from xnat_ingest.errors import Refused
from xnat_ingest.rest import Rest

DEFAULT_TEMPLATE = "${StudyInstanceUID}-${SeriesNumber}-${InstanceNumber}-${HashSOPClassUIDWithSOPInstanceUID}"
PREARCHIVE_CODES = {
    "0": "sessions stay in the prearchive unless told otherwise",
    "4": "sessions are archived by themselves",
    "5": "sessions are archived by themselves and overwrite",
}


@dataclass(frozen=True, slots=True)
class Project:
    """id: the canonical one (an alias would look like rerouting later); prearchive_code: "0", "4" or "5";
    splits_petmr: PET and MR go into two sessions; custom_names: files are not named by XNAT's default template."""

    id: str
    prearchive_code: str
    may_edit: bool
    splits_petmr: bool = False
    custom_names: bool = False


def ask(rest: Rest, project: str, *, to_send: bool) -> Project:
    """The project, as this user may use it. Raises Refused when it does not exist or must not be written to."""
    fields = rest.item(f"/data/projects/{project}")
    if fields is None:
        raise Refused(
            f"project {project} does not exist on {rest.server}, or user {rest.user} may not see it; "
            "check the spelling (XNAT wants the project's id, not its title) and ask its owner for access"
        )
    canonical = str(fields.get("ID") or project)
    may_edit = _may_edit(rest, canonical)
    if to_send and not may_edit:
        raise Refused(
            f"user {rest.user} may read project {canonical} but not add sessions; ask its owner for member rights"
        )
    code = rest.get(f"/data/projects/{canonical}/prearchive_code").text.strip()
    return Project(canonical, code, may_edit, _splits_petmr(rest, canonical), _custom_names(rest))


def describe(rest: Rest, project: str) -> Iterator[str]:
    """What `ping` says, line by line."""
    info = rest.get("/xapi/siteConfig/buildInfo").text
    version = ""
    with suppress(ValueError, AttributeError):
        version = json.loads(info).get("version", "")
    yield f"server   {rest.server}, XNAT {version or 'of unknown version'}"
    yield f"user     {rest.user}, logged in"
    if not project:
        return
    found = ask(rest, project, to_send=False)
    yield f"project  {found.id}, {'may add sessions' if found.may_edit else 'may only read'}"
    yield f"archive  code {found.prearchive_code}: {PREARCHIVE_CODES.get(found.prearchive_code, 'unknown')}"
    for where, path in (("site", "/data/config"), ("project", f"/data/projects/{found.id}/config")):
        state = "on: it drops series without a word" if _filter_enabled(rest, path) else "off"
        yield f"filter   the {where}'s series import filter is {state}"
    if not found.may_edit:
        raise Refused(f"user {rest.user} may not add sessions to project {found.id}; ask its owner for member rights")


def _may_edit(rest: Rest, project: str) -> bool:
    """Whether the user may add sessions: the import service would not refuse, closing would, after all the sending.

    XNAT checks this very right before it looks for a prearchive row, so a row that cannot exist tells (403 or an
    empty table) and changes nothing.
    """
    nowhere = f"/data/prearchive/projects/{project}/19000101_000000000/none"
    return rest.request("GET", nowhere, {"format": "json"}, accept=(200, 403)).status == 200


def _splits_petmr(rest: Rest, project: str) -> bool:
    """The project's own word, or else the site's."""
    path = f"/data/projects/{project}/config/separatePETMR/config"
    own = rest.request("GET", path, {"contents": "true", "accept-not-found": "true"}, accept=(200, 204, 404))
    word = own.text.strip() if own.status == 200 else ""
    return (word or _preference(rest, "sitewidePetMr")) == "separate"


def _custom_names(rest: Rest) -> bool:
    """Whether the site is known to name files in its own way; most users may not ask, and then it is not known."""
    template = _preference(rest, "dicomFileNameTemplate").removesuffix(".dcm")
    return template not in ("", DEFAULT_TEMPLATE)


def _preference(rest: Rest, name: str) -> str:
    """A site preference as bare text, "" when this user may not read it."""
    reply = rest.request("GET", f"/xapi/siteConfig/{name}", accept=(200, 400, 403, 404, 500))
    return reply.text.strip().strip('"') if reply.status == 200 else ""


def _filter_enabled(rest: Rest, path: str) -> bool:
    reply = rest.request(
        "GET",
        f"{path}/seriesImportFilter/config",
        {"format": "json", "accept-not-found": "true"},
        accept=(200, 204, 404),
    )
    if reply.status != 200 or not reply.text:
        return False
    try:
        row = json.loads(reply.text)["ResultSet"]["Result"][0]
        return row.get("status") == "enabled" and bool(json.loads(row.get("contents") or "{}").get("enabled"))
    except (ValueError, KeyError, IndexError, TypeError):
        return False
