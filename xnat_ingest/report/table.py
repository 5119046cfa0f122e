"""Sessions as a table: as columns that fit a terminal, and as CSV."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from xnat_ingest.core import IngestError, Instance, Outcome, SetAside, printable, spreadsheet_cell
from xnat_ingest.core.atomic_file import replacing
from xnat_ingest.report.progress import amount

COLUMNS = ("project", "subject", "session", "folder", "verdict", "scans", "instances", "proven", "bytes", "uri")
_HEADS = ("SUBJECT", "SESSION", "SCANS", "INSTANCES", "SIZE", "FOLDER")
_RIGHT = frozenset((2, 3, 4))
# On a narrow terminal the folder is shortened. At least this many characters at its end are kept.
_LEAST_FOLDER = 10


def plan_lines(outcomes: Sequence[Outcome], width: int, *, scans: bool) -> Iterator[str]:
    """One line per session, and with `scans` one per scan. width: of the terminal."""
    if not outcomes:
        return
    several = len({outcome.session.project for outcome in outcomes}) > 1
    rows = [_row(outcome, several_projects=several) for outcome in outcomes]
    widths = [max(len(row[k]) for row in (_HEADS, *rows)) for k in range(len(_HEADS) - 1)]
    room = max(_LEAST_FOLDER, width - sum(widths) - 2 * len(widths) - 1)
    yield _line(_HEADS, widths, room)
    for row, outcome in zip(rows, outcomes, strict=True):
        yield _line(row, widths, room)
        if scans:
            yield from _scan_lines(outcome)


def _row(outcome: Outcome, *, several_projects: bool) -> tuple[str, ...]:
    session = outcome.session
    flag = "" if outcome.verdict.word == "unverified" else f"  {outcome.verdict.word.upper()}"
    here = f"  {outcome.verdict.already_there} already there" if outcome.verdict.already_there else ""
    return (
        f"{session.project}/{session.subject}" if several_projects else session.subject,
        session.label,
        str(len(_series(outcome))),
        str(len(session.instances)),
        amount(session.bytes),
        f"{printable(session.folder)}{here}{flag}",
    )


def _line(cells: Sequence[str], widths: Sequence[int], room: int) -> str:
    *fixed, folder = cells
    padded = [c.rjust(w) if k in _RIGHT else c.ljust(w) for k, (c, w) in enumerate(zip(fixed, widths, strict=True))]
    shown = folder if len(folder) <= room else f"...{folder[3 - room :]}"
    return "  ".join((*padded, shown)).rstrip()


def aside_lines(asides: Sequence[SetAside], width: int) -> Iterator[str]:
    """The number of files set aside per reason, the most common first, with an example. width: of the terminal."""
    examples: dict[str, str] = {}
    for aside in asides:
        examples.setdefault(aside.reason, aside.path)
    counts = Counter(aside.reason for aside in asides)
    for reason, number in counts.most_common():
        line = f"{number:>9}  {printable(reason)}  such as {printable(examples[reason])}"
        yield line if len(line) < width else f"{line[: width - 4]}..."


def _scan_lines(outcome: Outcome) -> Iterator[str]:
    for members in _series(outcome).values():
        one = members[0]
        yield (
            f"    scan {one.series_number or '-':<4}  {one.modality:<4}  {len(members):>6} instances  "
            f"{printable(one.series_description)}"
        ).rstrip()


def _series(outcome: Outcome) -> dict[str, list[Instance]]:
    series: dict[str, list[Instance]] = defaultdict(list)
    for instance in outcome.session.instances:
        series[instance.series_uid].append(instance)
    return series


def write_csv(path: str, outcomes: Sequence[Outcome], *, mode: int = 0o600) -> None:
    """Writes one line per session. No spreadsheet runs or changes a cell. Raises IngestError."""
    try:
        with replacing(path, mode) as stream:
            table = csv.writer(stream)
            table.writerow(COLUMNS)
            table.writerows(map(_csv_row, outcomes))
    except OSError as error:
        raise IngestError(f"the table could not be written to {path}: {error.strerror}") from error


def _csv_row(outcome: Outcome) -> list[str | int]:
    session, verdict = outcome.session, outcome.verdict
    return [
        *(spreadsheet_cell(printable(text)) for text in (session.project, session.subject, session.label)),
        spreadsheet_cell(printable(session.folder)),
        verdict.word,
        len(_series(outcome)),
        len(session.instances),
        len(verdict.verified) + len(verdict.counted),
        session.bytes,
        spreadsheet_cell(printable(verdict.uri)),
    ]
