"""The handler for archives: zip, tar and gzipped tar, read front to back while they come in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tests.standin import closing, tarstream, zipstream
from tests.standin.body import BodyCutError
from tests.standin.importer import store
from tests.standin.model import User
from tests.standin.namer import base_name
from tests.standin.tables import RestError
from tests.standin.tarstream import ArchiveError, Gunzip, Source
from tests.standin.zipstream import MalformedNameError

if TYPE_CHECKING:
    from tests.standin.server import StandIn


class DicomZip:
    """The handler for archives; entries are stored one by one and nothing is rolled back."""

    def __init__(self, site: StandIn, user: User, params: dict[str, str]) -> None:
        self._site = site
        self._user = user
        self._params = params
        self._ignore = params.get("Ignore-Unparsable", "").lower() == "true"
        self._unparsable: RestError | None = None
        self._found: dict[str, None] = {}

    def run(self, name: str, body: Source) -> list[str]:
        self._destination()
        for outer, inner in (("project", "PROJECT_ID"), ("subject", "SUBJECT_ID"), ("session", "EXPT_LABEL")):
            if outer in self._params:
                self._params[inner] = self._params[outer]
        try:
            self._archive(name, body)
        except MalformedNameError as error:
            raise RestError(400, str(error)) from error
        if not self._found and self._unparsable:
            raise self._unparsable
        if self._params.get("action") == "commit":
            return closing.inline(self._site, self._user, self._params, list(self._found))
        return list(self._found)

    def _destination(self) -> None:
        """``dest`` forces the commit and decides about archiving."""
        dest = self._params.get("dest")
        if not dest:
            return
        parts = [part for part in dest.split("/") if part]
        if parts and parts[0] in ("data", "REST"):
            parts = parts[1:]
        if not parts or parts[0] not in ("archive", "prearchive") or (len(parts) > 1 and parts[1] != "projects"):
            raise RestError(400, "Parameter dest format error")
        archive = parts[0] == "archive"
        self._params |= {"action": "commit", "AA": str(archive).lower(), "auto-archive": str(archive).lower()}
        if archive:
            named = dict(zip(parts[1::2], parts[2::2], strict=False))
            words = {"projects": "PROJECT_ID", "subjects": "SUBJECT_ID", "experiments": "EXPT_LABEL"}
            self._params |= {words[key]: value for key, value in named.items() if key in words}
        else:
            words_in_order = ("PROJECT_ID", "PREARC_TIMESTAMP", "PREARC_SESSION_FOLDER")
            self._params |= dict(zip(words_in_order, parts[2:], strict=False))

    def _archive(self, name: str, source: Source) -> None:
        """Every entry of an archive; an entry that is one itself is gone through in the same way."""
        kind = archive_kind(name)
        if kind not in ("ZIP", "TAR", "TGZ"):
            raise RestError(400, f"Unsupported format {kind}")
        try:
            for entry, member in _members(kind, source):
                self._entry(entry, member)
        except (ArchiveError, BodyCutError) as error:
            raise RestError(400, "unable to read data from file") from error

    def _entry(self, name: str, member: Source) -> None:
        try:
            if archive_kind(name) != "UNKNOWN":
                self._archive(base_name(name), member)
            else:
                found = store(self._site, self._user, self._params, base_name(name), member)
                self._found |= dict.fromkeys(found)
        except RestError as error:
            if not self._ignore:
                raise
            self._unparsable = error


def _members(kind: str, source: Source) -> Iterator[tuple[str, Source]]:
    """The entries that are no folders."""
    if kind == "ZIP":
        for name, data in zipstream.entries(source):
            if not name.endswith("/"):
                yield name, data
        return
    for entry in tarstream.entries(Gunzip(source) if kind == "TGZ" else source):
        if entry.kind != b"5" and not entry.name.endswith("/"):
            yield entry.name, entry.member


def archive_kind(name: str) -> str:
    """The type by suffix, which is case-sensitive; the content is never looked at."""
    if name.endswith((".zip", ".zar")):
        return "ZIP"
    if name.endswith((".tar", ".xar")):
        return "TAR"
    if name.endswith((".tgz", ".tar.gz")):
        return "TGZ"
    return "GZ" if name.endswith(".gz") else "UNKNOWN"
