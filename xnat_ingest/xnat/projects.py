"""The project on the server: its real id, the user's permission, and the settings that matter to an upload."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from xnat_ingest.core import Refused
from xnat_ingest.xnat.client import XnatClient
from xnat_ingest.xnat.replies import Reply
from xnat_ingest.xnat.series_filter import Filter, NotEvaluated, parse_filter

DEFAULT_TEMPLATE = "${StudyInstanceUID}-${SeriesNumber}-${InstanceNumber}-${HashSOPClassUIDWithSOPInstanceUID}"
# An assignment to (0020,000D), a deletion, or a function that rewrites all UIDs. X matches any digit.
_CHANGES_STUDY = re.compile(
    r"\([0X][0X][2X][0X],\s*[0X][0X][0X][DX@]\)\s*\??:=|-\s*\([0X][0X][2X][0X],\s*[0X][0X][0X][DX@]\)|mapReferencedUIDs",
    re.IGNORECASE,
)
# The types of imaging sessions in XNAT, without the common start and end of their names.
_SESSION_TYPES = ("mr", "ct", "pet", "petmr", "cr", "dx", "mg", "nm", "rf", "rt", "sr", "us", "xa", "otherDicom")
# Settings that an ordinary user may not read are unknown, which is not an error.
_UNREADABLE = (400, 403, 500)
_ANY = (200, 404, *_UNREADABLE)
_LONGEST_WORD = 40  # characters
PREARCHIVE_CODES = {
    "0": "sessions stay in the prearchive unless the uploader says otherwise",
    "4": "sessions are archived automatically",
    "5": "sessions are archived automatically and overwrite",
}


@dataclass(frozen=True, slots=True)
class SiteRules:
    """Settings of the site.

    filter: None when it is switched off or absent.
    anonymises: whether a script changes headers on receipt. None: this user may not read that.
    changes_uids: whether that script changes UIDs. None: this user may not read that.
    """

    filter: Filter | NotEvaluated | None = None
    anonymises: bool | None = None
    changes_uids: bool | None = None


@dataclass(frozen=True, slots=True)
class Project:
    """A project and its settings.

    id: the canonical one (an alias would look like rerouting later).
    prearchive_code: "0", "4" or "5".
    splits_petmr: PET and MR go into two sessions.
    template: of file names, where it is known not to be XNAT's default one; else "".
    filter: the project's own, None when it is switched off or absent.
    anonymises: whether headers change at archiving. None: this user may not read that.
    takes_subjects: uploads may create subjects.
    makes_petmr: PET and MR together are known to make a PET/MR session.
    """

    id: str
    prearchive_code: str
    may_edit: bool
    splits_petmr: bool = False
    template: str = ""
    filter: Filter | NotEvaluated | None = None
    anonymises: bool | None = None
    takes_subjects: bool = True
    makes_petmr: bool = False


def fetch_project(rest: XnatClient, project: str, *, to_send: bool) -> Project:
    """The project, with this user's permissions. Raises Refused when it does not exist or cannot be written to."""
    fields = rest.item(f"/data/projects/{project}")
    if fields is None:
        raise Refused(
            f"project {project} does not exist on {rest.server}, or user {rest.user} may not see it; "
            "check the spelling (use the project's id, not its title), or ask its owner for access"
        )
    canonical = str(fields["ID"])
    own = f"/data/projects/{canonical}/config"
    with rest.asking() as pool:
        may_edit = pool.submit(_may_edit, rest, canonical)
        code = pool.submit(rest.get, f"/data/projects/{canonical}/prearchive_code")
        petmr = pool.submit(_petmr, rest, canonical)
        template = pool.submit(_template, rest)
        filtered = pool.submit(_filter, rest, own)
        anonymises = pool.submit(_is_on, rest, f"{own}/anon/projects/{canonical}")
        # Only upload tools honour this setting. XNAT itself creates any subject.
        takes_subjects = pool.submit(_contents, rest, f"{own}/applet/allow-create-subject")
    if to_send and not may_edit.result():
        raise Refused(
            f"user {rest.user} may read project {canonical} but not add sessions; ask its owner for member access"
        )
    return Project(
        canonical,
        _word(code.result().text),
        may_edit.result(),
        petmr.result() == "separate",
        template.result(),
        filtered.result(),
        anonymises.result(),
        takes_subjects.result().text.strip().lower() != "false",
        petmr.result() in ("", "petmr"),
    )


def fetch_site_settings(rest: XnatClient) -> SiteRules:
    """Fetches the site's settings. Done once in a run."""
    with rest.asking() as pool:
        filtered = pool.submit(_filter, rest, "/data/config")
        anonymises = _site_anonymises(rest)
        changes_uids = _changes_uids(rest, anonymises)
    return SiteRules(filtered.result(), anonymises, changes_uids)


def fetch_site_filter(rest: XnatClient) -> SiteRules:
    """Fetches the site's series import filter alone."""
    return SiteRules(_filter(rest, "/data/config"))


def _site_anonymises(rest: XnatClient) -> bool | None:
    switch = _preference(rest, "enableSitewideAnonymizationScript").lower()
    return switch == "true" if switch else _is_on(rest, "/data/config/anon/script")


def _changes_uids(rest: XnatClient, anonymises: bool | None) -> bool | None:
    if anonymises is False:
        return False
    script = _preference(rest, "sitewideAnonymizationScript")
    return changes_study_uid(script) if script else None


def changes_study_uid(script: str) -> bool:
    """Whether a DicomEdit script assigns or deletes StudyInstanceUID, or rewrites all UIDs."""
    lines = (line.partition("//")[0] for line in script.replace("\\n", "\n").splitlines())
    return any(_CHANGES_STUDY.search(line) for line in lines)


def replaces_values(rest: XnatClient, project: Project) -> bool:
    """Whether a script of the site or the project may have replaced header values. True when that is unknown."""
    return _preference(rest, "enableSitewideAnonymizationScript").lower() != "false" or project.anonymises is not False


def log_fields(site: SiteRules, project: Project) -> dict[str, object]:
    """The settings that matter to an upload, for the log."""
    return {
        "project": project.id,
        "prearchive_code": project.prearchive_code,
        "site_filter": _filter_text(site.filter),
        "project_filter": _filter_text(project.filter),
        "splits_petmr": project.splits_petmr,
        "site_anonymises": _known(site.anonymises),
        "site_changes_uids": _known(site.changes_uids),
        "project_anonymises": _known(project.anonymises),
        "takes_subjects": project.takes_subjects,
    }


def _word(said: str) -> str:
    """A number or a version that the server gives, whatever it sends in its place."""
    return said.strip()[:_LONGEST_WORD]


def ping_lines(rest: XnatClient, project: str) -> Iterator[str]:
    """The lines that `ping` prints."""
    info = rest.get("/xapi/siteConfig/buildInfo").text
    version = ""
    with suppress(ValueError, AttributeError, RecursionError):
        version = _word(str(json.loads(info).get("version") or ""))
    yield f"server   {rest.server}, XNAT {version or 'of unknown version'}"
    yield f"user     {rest.user}, logged in"
    if not project:
        return
    found = fetch_project(rest, project, to_send=False)
    yield f"project  {found.id}, {'may add sessions' if found.may_edit else 'may only read'}"
    yield f"archive  code {found.prearchive_code}: {PREARCHIVE_CODES.get(found.prearchive_code, 'unknown')}"
    site = fetch_site_settings(rest)
    yield f"filter   the site's series import filter is {_filter_text(site.filter)}"
    yield f"filter   the project's series import filter is {_filter_text(found.filter)}"
    yield f"PET/MR   {'is split into a PET and an MR session' if found.splits_petmr else 'stays in one session'}"
    yield f"anonym.  by the site on receipt: {_known(site.anonymises)}; by the project at archiving: " + _known(
        found.anonymises
    )
    yield f"UIDs     the site's script changes them on receipt: {_known(site.changes_uids)}"
    asks = "may be created by an upload" if found.takes_subjects else "should exist before an upload"
    yield f"subjects {asks}"
    if hidden := unlisted_types(rest):
        yield (
            f"types    not set up on the site: {', '.join(hidden)}; such sessions are archived, but do not appear in "
            "listings until an administrator sets up their data type"
        )
    if not found.may_edit:
        raise Refused(f"user {rest.user} may not add sessions to project {found.id}; ask its owner for member access")


def unlisted_types(rest: XnatClient) -> list[str]:
    """Session types that are not set up on the site; empty when the server does not say."""
    reply = rest.request("GET", "/data/search/elements", {"format": "json"}, accept=(200, 404, *_UNREADABLE))
    try:
        known = {str(row["ELEMENT_NAME"]) for row in json.loads(reply.text)["ResultSet"]["Result"]}
    except (ValueError, KeyError, TypeError, RecursionError):
        return []
    return [name for name in _SESSION_TYPES if known and f"xnat:{name}SessionData" not in known]


def _may_edit(rest: XnatClient, project: str) -> bool:
    """Whether the user may add sessions. The import service accepts files without this permission, but the commit does
    not, after everything was sent.

    XNAT checks the permission before it looks for a prearchive session. So asking for one that cannot exist shows it
    (403 or an empty table) and changes nothing.
    """
    nowhere = f"/data/prearchive/projects/{project}/19000101_000000000/none"
    return rest.request("GET", nowhere, {"format": "json"}, accept=(200, 403)).status == 200


def _petmr(rest: XnatClient, project: str) -> str | None:
    """What becomes of PET and MR in one session: `separate`, `pet`, `petmr`, or "", which is the same as `petmr`.

    The project's own setting, or else the site's. None: this user may not read it.
    """
    own = _contents(rest, f"/data/projects/{project}/config/separatePETMR/config")
    word = "".join(own.text.split()).lower() if own.status == 200 else ""
    if word:
        return word
    site = rest.request("GET", "/xapi/siteConfig/sitewidePetMr", accept=_ANY)
    word = "".join(site.text.split()).strip('"').lower() if site.status == 200 else ""
    if word in ("", "null"):  # 404 where it was never set
        return "" if site.status in (200, 404) and own.status in (200, 204, 404) else None
    return word


def _template(rest: XnatClient) -> str:
    """The site's own template of file names, if it has one. Most users may not ask, and then it is unknown."""
    template = _preference(rest, "dicomFileNameTemplate").removesuffix(".dcm")
    return "" if template == DEFAULT_TEMPLATE else template


def _preference(rest: XnatClient, name: str) -> str:
    """A site preference as plain text, "" when this user may not read it."""
    reply = rest.request("GET", f"/xapi/siteConfig/{name}", accept=_ANY)
    return reply.text.strip().strip('"') if reply.status == 200 else ""


def _contents(rest: XnatClient, path: str) -> Reply:
    """A configuration's contents as plain text. 204 or 404 mean that it is absent or switched off."""
    return rest.request(
        "GET", path, {"contents": "true", "accept-not-found": "true"}, accept=(200, 204, 404, *_UNREADABLE)
    )


def _filter(rest: XnatClient, config: str) -> Filter | NotEvaluated | None:
    reply = _contents(rest, f"{config}/seriesImportFilter/config")
    if reply.status in (204, 404):
        return None
    if reply.status != 200:
        return NotEvaluated(f"the server does not show it to user {rest.user}")
    return parse_filter(reply.text)


def _is_on(rest: XnatClient, path: str) -> bool | None:
    """Whether a configuration exists and is switched on. Its contents are not requested."""
    query = {"format": "json", "meta": "true", "accept-not-found": "true"}
    reply = rest.request("GET", path, query, accept=(200, 204, 404, *_UNREADABLE))
    if reply.status in (204, 404):
        return False
    try:
        return bool(json.loads(reply.text)["ResultSet"]["Result"][0]["status"] == "enabled")
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        return None


def _filter_text(found: Filter | NotEvaluated | None) -> str:
    if found is None:
        return "off"
    if isinstance(found, NotEvaluated):
        return f"not evaluated here: {found.reason}"
    return f"on: it silently drops series ({found.mode}, {len(found.patterns)} patterns)"


def _known(state: bool | None) -> str:
    return {True: "yes", False: "no", None: "unknown"}[state]
