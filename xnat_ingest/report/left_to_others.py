"""Files that a shard left to another one, and that none has taken: the tree or the options changed between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from xnat_ingest.core import printable

Report = Mapping[str, Any]
OTHER = "other-shard"
NOT_TAKEN = "not-taken"
_NAMED = 10


def left_by(report: Report) -> list[str]:
    """The paths that a shard left to another one."""
    return [one["path"] for one in report["set_aside"] if one["reason"] == OTHER]


def not_taken(shards: Sequence[Report]) -> Iterator[dict[str, Any]]:
    """A problem for each shard that left files to others which the others' reports have not.

    shards: the reports of all of them.

    A report names the folder of a session and the number of its instances, not each path. So files are counted: no more
    may have been left below a folder than was planned there.
    """
    is_redacted = any(not report.get("root") for report in shards)  # each report has made-up names of its own
    for report in shards:
        others = [one for one in shards if one is not report]
        lacking = _counted(report, others) if is_redacted else _by_place(report, others)
        if lacking:
            yield _problem(report, lacking)


def _problem(report: Report, lacking: Sequence[str]) -> dict[str, Any]:
    folders = sorted({path.rpartition("/")[0] or "ROOT" for path in lacking if path})
    more = ", ..." if len(folders) > _NAMED else ""
    named = f" (in {', '.join(folders[:_NAMED])}{more})" if folders else ""
    detail = (
        f"{len(lacking)} files that shard {printable(report.get('shard', ''))} left to another shard are in no other "
        f"report{named}: the tree or the options changed between the shards. Run all shards again, with the same "
        "options, then merge again"
    )
    return {"kind": NOT_TAKEN, "detail": detail, "sessions": []}


def _counted(report: Report, others: Iterable[Report]) -> list[str]:
    """As many empty names as there are files too many."""
    room = sum(one["totals"]["planned"] + one["totals"]["set_aside"] - len(left_by(one)) for one in others)
    return [""] * max(0, len(left_by(report)) - room)


def _by_place(report: Report, others: Iterable[Report]) -> list[str]:
    """The paths for which no other report has room, or in a folder with too little room as many as there are too many.

    Sessions may lie in one another's folders. So the deepest folder takes what it can, and the rest goes up.
    """
    aside, room = set[str](), Counter[str]()
    for other in others:
        aside |= {one["path"] for one in other["set_aside"] if one["reason"] != OTHER}
        for session in other["sessions"]:
            room[session["folder"]] += session["instances"]
    lacking = []
    for path in sorted(left_by(report)):
        places = list(_places(path))
        if aside.isdisjoint(places):
            folder = next((place for place in places if room[place] > 0), None)
            if folder is None:
                lacking.append(path)
            else:
                room[folder] -= 1
    return lacking


def _places(path: str) -> Iterator[str]:
    """The path and the folders above it, the deepest first, ROOT as an empty name."""
    while path:
        yield path
        path = path.rpartition("/")[0]
    yield ""
