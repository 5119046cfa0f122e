"""Files of a tree that its shards did not share: the tree or the options changed between them.

Either a shard left them to another one and none has taken them, or two have taken them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from xnat_ingest.core import OTHER_SHARD, printable

Report = Mapping[str, Any]
NOT_TAKEN = "not-taken"
_NAMED = 10


def left_by(report: Report) -> list[str]:
    """The paths that a shard left to another one."""
    return [one["path"] for one in report["set_aside"] if one["reason"] == OTHER_SHARD]


def not_taken(shards: Sequence[Report]) -> Iterator[dict[str, Any]]:
    """A problem for each shard that left files to others which the others' reports have not.

    shards: the reports of all of them.

    A report names the folder of a session and the number of its instances, not each path. So files are counted: no more
    may have been left below a folder than was planned there.
    """
    is_redacted = any(not report.get("root") for report in shards)  # each report has made-up names of its own
    aside = {one["path"] for report in shards for one in report["set_aside"] if one["reason"] != OTHER_SHARD}
    rooms = [_room(report) for report in shards]
    total: Counter[str] = Counter()
    for room in rooms:
        total.update(room)
    files = sum(map(_own_files, shards))
    for report, room in zip(shards, rooms, strict=True):
        left = left_by(report)
        if is_redacted:
            lacking = +Counter({"": len(left) - (files - _own_files(report))})
        else:
            lacking = _without_room(left, aside, total - room)
        if lacking:
            yield _problem(report, lacking, is_redacted=is_redacted)


def taken_twice(shards: Sequence[Report]) -> Iterator[dict[str, Any]]:
    """A problem where the reports have more files than any of them has seen. shards: the reports of all of them."""
    if any(not report.get("root") for report in shards):  # made-up names tell no files
        return
    aside = {one["path"] for report in shards for one in report["set_aside"] if one["reason"] != OTHER_SHARD}
    files = sum(report["totals"]["planned"] for report in shards) + len(aside)
    more = files - max(report["totals"]["planned"] + report["totals"]["set_aside"] for report in shards)
    if more > 0:
        detail = (
            f"{more} files are planned in one shard and set aside in another: the tree or the options changed between "
            "the shards. Run all shards again, with the same options, then merge again"
        )
        yield {"kind": NOT_TAKEN, "detail": detail, "sessions": []}


def _own_files(report: Report) -> int:
    """How many files a report has, without those that it left to others."""
    files: int = report["totals"]["planned"] + report["totals"]["set_aside"]
    return files - len(left_by(report))


def _room(report: Report) -> Counter[str]:
    """Folder of a session -> how many instances were planned there. ROOT is an empty name, as in _places."""
    room: Counter[str] = Counter()
    for session in report["sessions"]:
        room["" if session["folder"] == "." else session["folder"]] += session["instances"]
    return room


def _problem(report: Report, lacking: Counter[str], *, is_redacted: bool) -> dict[str, Any]:
    more = ", ..." if len(lacking) > _NAMED else ""
    folders = ", ".join(folder or "ROOT" for folder in sorted(lacking)[:_NAMED])
    named = "" if is_redacted else f" (in {folders}{more})"
    detail = (
        f"{lacking.total()} files that shard {printable(report.get('shard', ''))} left to another shard are in no "
        f"other report{named}: the tree or the options changed between the shards. Run all shards again, with the same "
        "options, then merge again"
    )
    return {"kind": NOT_TAKEN, "detail": detail, "sessions": []}


def _without_room(left: Iterable[str], aside: AbstractSet[str], room: Counter[str]) -> Counter[str]:
    """Folder -> the number of files there for which there is no room.

    Sessions may lie in one another's folders. So the deepest folder takes what it can, and the rest goes up.

    aside: paths that a report has for another reason.
    room: see _room. It is used up.
    """
    folders = Counter(path if path in room else path.rpartition("/")[0] for path in left if path not in aside)
    lacking: Counter[str] = Counter()
    for folder, number in sorted(folders.items()):
        places = list(_places(folder))
        if not aside.isdisjoint(places):
            continue
        for place in places:
            taken = min(number, room[place])
            room[place] -= taken
            number -= taken  # noqa: PLW2901 - what is left of it
        if number:
            lacking[folder] = number
    return lacking


def _places(path: str) -> Iterator[str]:
    """The path and the folders above it, the deepest first, ROOT as an empty name."""
    while path:
        yield path
        path = path.rpartition("/")[0]
    yield ""
