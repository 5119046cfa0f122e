"""Stores files in a resource, and checks in its listing that they arrived."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from xnat_ingest.commands.resources.files import FilesBody, LocalFile, batches, digest_of
from xnat_ingest.commands.resources.listings import Listing, Stored, stored_files
from xnat_ingest.core import IngestError, Refused, ServerSaid, SourceChanged, Unreachable
from xnat_ingest.transports.bodies import TextBody
from xnat_ingest.xnat.client import XnatClient
from xnat_ingest.xnat.retry_policy import MOST_ATTEMPTS, RetryPolicy, is_transient

__all__ = ["Listing", "LocalFile", "Put", "PutOutcome", "Stored", "create", "holds", "not_begun", "put_text", "send"]

# The catalog of a resource is one file. With two writers at once, one is refused (500) and has to try again.
ATTEMPTS = 3
# XNAT recognises the kind of an archive only by its name. Members keep their own names.
_ARCHIVE = "files.tar"
_NOT_SENT = "not sent: the command ended before; run the same again"
_NOT_WHOLE = "not stored whole when the command ended; run the same again"
_NOT_KNOWN = "not known whether it is stored: the command ended before it saw the listing; run the same again"
_KEPT = "a file of this name exists on the server but is not in the catalog; use --overwrite to replace it"


@dataclass(frozen=True, slots=True)
class PutOutcome:
    """What happened to the files, by name.

    sent, already: seen in the server's listing.
    different: on the server with other content, and not overwritten.
    failed: name -> why.
    """

    sent: frozenset[str] = frozenset()
    already: frozenset[str] = frozenset()
    failed: dict[str, str] = field(default_factory=dict)
    different: frozenset[str] = frozenset()


def put_text(
    rest: XnatClient,
    parent: str,
    label: str,
    name: str,
    text: str,
    *,
    retry_policy: RetryPolicy,
    query: Mapping[str, str],
) -> None:
    """Stores a file that only this run writes, so overwriting it is safe.

    parent: address of the project, subject or session, from `/data` on.
    name: may have folders.

    Raises IngestError. Without permission the server answers 200 and stores nothing, so check with `holds`.
    """
    path = f"{parent}/resources/{label}/files/{name}"
    wanted = {"inbody": "true", **query}
    for attempt in range(1, ATTEMPTS + 1):
        try:
            rest.request("PUT", path, wanted, body=TextBody(text, "application/octet-stream"), accept=(200, 201))
            return
        except (ServerSaid, Unreachable) as error:
            if attempt == ATTEMPTS or 0 < error.status < 500:
                raise
            retry_policy.wait(error, attempt)
            wanted["overwrite"] = "true"


def holds(rest: XnatClient, parent: str, label: str, names: set[str]) -> bool:
    """Whether all of these files, named with their folders, are in the resource's listing."""
    return names <= stored_files(rest, parent, label).keys()


def create(
    rest: XnatClient, parent: str, label: str, *, retry_policy: RetryPolicy, query: Mapping[str, str] | None = None
) -> None:
    """Creates the resource if it does not exist: two first files at once would create two with the same label.

    Raises Refused for a user without permission. XNAT would answer 200 to every file and store none.
    """
    for attempt in count(1):
        try:
            rest.request("PUT", f"{parent}/resources/{label}", query, accept=(200, 201, 409))
            return
        except (ServerSaid, Unreachable) as error:
            if error.status == 403:
                raise Refused(
                    f"user {rest.user} may not put files into {parent}; ask the project's owner for access (only "
                    "owners "
                    "can write a project's own resources)"
                ) from error
            if not is_transient(error):
                raise
            retry_policy.wait(error, attempt)


def send(
    rest: XnatClient,
    parent: str,
    label: str,
    files: Sequence[LocalFile],
    *,
    overwrite: bool,
    retry_policy: RetryPolicy,
    format: str = "",  # noqa: A002 - XNAT's own word
    content: str = "",
    tags: Sequence[str] = (),
    progress: Callable[[int], None] | None = None,
    check_stop: Callable[[], None],
) -> PutOutcome:
    """Stores the files that are missing or, with overwrite, different. Checks all of them in the listing.

    Only one call at a time for a resource: XNAT refuses one of two that write its catalog at once.

    parent: address of the project, subject, session or scan, from `/data` on.
    progress: called with the bytes as they are sent.
    check_stop: raises to end it.

    Raises Refused without permission, and the last error when the retries are used up. A later call with the same files
    continues. It needs overwrite if files were left on the server's disk that are not listed.
    """
    said = {"format": format, "content": content, "tags": ",".join(tags)}
    return Put(rest, parent, label, files, retry_policy, check_stop, said, progress).run(overwrite=overwrite)


def not_begun(files: Sequence[LocalFile]) -> PutOutcome:
    """The outcome of a command that ended before it sent anything."""
    return PutOutcome(failed=dict.fromkeys((file.name for file in files), _NOT_SENT))


class Put:
    """Stores some files in one resource, one request after the other. See `send`.

    said: format, content and tags, in XNAT's own words.
    """

    def __init__(
        self,
        rest: XnatClient,
        parent: str,
        label: str,
        files: Sequence[LocalFile],
        retry_policy: RetryPolicy,
        check_stop: Callable[[], None],
        said: Mapping[str, str],
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self._rest = rest
        self._parent = parent
        self._label = label
        self._files = files
        self._retry_policy = retry_policy
        self._check_stop = check_stop
        self._progress = progress or (lambda _: None)
        self._digests: dict[str, str] = {}
        self._query = {key: value for key, value in said.items() if value}
        self._begun: set[str] = set()
        self._taken: set[str] = set()
        self.sent: set[str] = set()
        self.already: set[str] = set()
        self.failed: dict[str, str] = {}
        self.different: set[str] = set()

    def run(self, *, overwrite: bool) -> PutOutcome:
        """Raises what `send` raises. Ask `look_again` then."""
        if lacking := self.compare(self._files, overwrite=overwrite):
            about = {key: value for key, value in self._query.items() if key != "tags"}
            create(self._rest, self._parent, self._label, retry_policy=self._retry_policy, query=about)
            for batch in batches(lacking):
                self.deliver(batch, replace=overwrite)
            self.verify(lacking)
        return self._outcome(self.sent, self.failed)

    @property
    def has_stored(self) -> bool:
        """Whether the server took anything of this run."""
        return bool(self._taken)

    def look_again(self) -> PutOutcome:
        """What became of each file when the run was ended early. The listing is asked for once more."""
        try:
            return self._ended(self._held())
        except IngestError:
            return self.known()

    def known(self) -> PutOutcome:
        """The same without a question to the server."""
        return self._ended(None)

    def _ended(self, held: Listing | None) -> PutOutcome:
        sent, failed = set(self.sent), dict(self.failed)
        for file in self._files:
            if file.name in sent or file.name in failed or file.name in self.already or file.name in self.different:
                continue
            if file.name not in self._begun:
                failed[file.name] = _NOT_SENT
            elif held is None:
                failed[file.name] = _NOT_KNOWN
            elif self._is_whole(file, held.get(file.name)):
                sent.add(file.name)
            else:
                failed[file.name] = _NOT_WHOLE
        return self._outcome(sent, failed)

    def _is_whole(self, file: LocalFile, stored: Stored | None) -> bool:
        """Whether the stored file is the one that was begun, as far as is known without reading the file again."""
        if stored is None or stored.size != file.size:
            return False
        return stored.digest == self._digests.get(file.name) if stored.digest else file.name in self._taken

    def _outcome(self, sent: set[str], failed: dict[str, str]) -> PutOutcome:
        return PutOutcome(frozenset(sent), frozenset(self.already), failed, frozenset(self.different))

    def compare(self, files: Sequence[LocalFile], *, overwrite: bool) -> list[LocalFile]:
        """The files that are missing on the server and, with overwrite, those that differ."""
        held = self._held()
        lacking = []
        for file in files:
            self._check_stop()
            stored = held.get(file.name)
            if stored is None:
                lacking.append(file)
            elif self._settled(file, stored, replace=overwrite):
                self.already.add(file.name)
            elif file.name not in self.failed:
                if overwrite:
                    lacking.append(file)
                else:
                    self.different.add(file.name)
        return lacking

    def deliver(self, batch: Sequence[LocalFile], *, replace: bool) -> None:
        """Sends one request, and repeats it with what is still missing, until all is stored or the server refuses.

        replace: replace existing files with these names, whether they are listed or not.
        """
        left = list(batch)
        lost = kept = False
        for attempt in count(1):
            self._check_stop()
            # An earlier request that failed may have left files on the server's disk, in this run or another. They are
            # not listed, and the same command must be able to go on.
            force = replace or lost
            try:
                self._begun.update(file.name for file in left)
                if self._put(left, force):
                    self._taken.update(file.name for file in left)
                    return
                kept, lost = force, True
            except SourceChanged as error:
                self.failed[error.path] = error.why
                lost = True
            except (ServerSaid, Unreachable) as error:
                if error.status == 413 and len(left) > 1:
                    self._halve(left, replace=replace)
                    return
                if not self._worth_another(error, attempt, left):
                    return
                lost = lost or not isinstance(error, Unreachable) or error.maybe_done
            left = self._lacking(left, replace=replace)
            if kept:
                self._fail(left, _KEPT)
            if kept or not left:
                return

    def verify(self, files: Sequence[LocalFile]) -> None:
        """Sorts the files into sent and failed, by the server's listing."""
        held = self._held()
        for file in files:
            if file.name in self.failed or file.name in self.different:
                continue
            stored = held.get(file.name)
            why = self._other(file, stored) if stored else "the server accepted it but does not list it; run again"
            if why:
                self.failed[file.name] = why
            else:
                self.sent.add(file.name)

    def _put(self, files: Sequence[LocalFile], force: bool) -> bool:
        """Whether the server stored everything. For a file that already exists it answers 200 and names it."""
        body = FilesBody(files, self._digests)
        name = body.single.name if body.single else _ARCHIVE
        query = {"inbody": "true", **self._query}
        if not body.single:
            query["extract"] = "true"
        if force:
            query["overwrite"] = "true"
        path = f"{self._parent}/resources/{self._label}/files/{name}"
        reply = self._rest.request("PUT", path, query, body=body, sent=self._told, accept=(200, 201))
        return not _duplicates(reply.text)

    def _told(self, number: int) -> None:
        self._check_stop()
        self._progress(number)

    def _halve(self, files: Sequence[LocalFile], *, replace: bool) -> None:
        """Splits a request that is too large for a proxy in front of the server."""
        middle = len(files) // 2
        for half in (files[:middle], files[middle:]):
            self.deliver(half, replace=replace)

    def _worth_another(self, error: ServerSaid | Unreachable, attempt: int, left: Sequence[LocalFile]) -> bool:
        """Waits before another attempt.

        Returns False when the server refuses these files. Raises when it refuses all.
        """
        if is_transient(error):
            self._retry_policy.wait(error, attempt, MOST_ATTEMPTS)
            return True
        if error.status < 400 or error.status in (401, 403):
            raise error
        if error.status < 500 or attempt == ATTEMPTS:
            self._fail(left, str(error))
            return False
        self._retry_policy.wait(error, attempt)
        return True

    def _lacking(self, files: Sequence[LocalFile], *, replace: bool) -> list[LocalFile]:
        """The files that are still missing in the server's listing."""
        held = self._held()
        lacking = []
        for file in files:
            if file.name in self.failed:
                continue
            stored = held.get(file.name)
            if stored and (self._settled(file, stored, replace=replace) or file.name in self.failed):
                self._taken.add(file.name)
                continue
            if stored and not replace:
                self.different.add(file.name)
            else:
                lacking.append(file)
        return lacking

    def _fail(self, files: Sequence[LocalFile], why: str) -> None:
        self.failed |= dict.fromkeys((file.name for file in files), why)

    def _held(self) -> Listing:
        return stored_files(self._rest, self._parent, self._label)

    def _settled(self, file: LocalFile, stored: Stored, *, replace: bool) -> bool:
        """Whether the file need not be sent. With replace, only an equal digest counts."""
        return not (self._other(file, stored) or (replace and not stored.digest))

    def _other(self, file: LocalFile, stored: Stored) -> str:
        """How the file differs from the stored one, "" when it does not. A file that cannot be read fails."""
        if stored.size != file.size:
            return f"the server has {stored.size} of {file.size} bytes; run the same again with --overwrite"
        if not stored.digest:
            return ""
        if file.name not in self._digests:
            try:
                self._digests[file.name] = digest_of(file)
            except SourceChanged as error:
                self.failed[file.name] = error.why
                return error.why
        same = self._digests[file.name] == stored.digest
        return "" if same else "the server has different bytes (by MD5); run the same again with --overwrite"


def _duplicates(text: str) -> bool:
    """Whether an answer names files that already existed, and so were not stored."""
    try:
        return bool(json.loads(text)["duplicates"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return bool(text.strip())
