"""The report as one page for people: what is wrong and what to do first, then session by session what was proven.

The page is made from the JSON report alone, so that a saved report can be shown later. It needs nothing from
elsewhere: style, script, data and pictures are inside, and its content policy forbids every request. All foreign text
goes through `escape` or, as JSON, into text nodes.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from importlib import resources
from string import Template
from typing import Any

from xnat_ingest.core.atomic_file import replacing
from xnat_ingest.core.errors import EXIT_MEANING, Exit, IngestError
from xnat_ingest.core.model import is_note
from xnat_ingest.report.advice import advice_on
from xnat_ingest.report.progress import amount

STATES = ("verified", "counted", "unverified", "missing", "failed")
# Rows of one session, files of one reason, sessions of one problem: the JSON report has them all.
SHOWN_UNPROVEN = 200
SHOWN_EXAMPLES = 5
SHOWN_PROBLEMS = 20
# Sessions that stand in the page from the start; the script draws further ones when they are asked for.
DRAWN = 200
# A timeline of more sessions than this is a grey wall.
SHOWN_BARS = 400
# Kinds of problems that are no session's and no remark.
RUN_KINDS = ("run-failed", "bug")
Report = Mapping[str, Any]
Pictures = Mapping[str, str]


def write_html(path: str, report: Report, pictures: Pictures | None = None, *, mode: int = 0o600) -> None:
    """The page, complete or not at all. pictures: SeriesInstanceUID -> data URI. Raises IngestError."""
    try:
        with replacing(path, mode) as stream:
            stream.write(page(report, pictures or {}))
    except OSError as error:
        raise IngestError(f"the page could not be written to {path}: {error.strerror}") from error


def page(report: Report, pictures: Pictures) -> str:
    """report: as docs/design.md describes the JSON file."""
    script = _text("page.js")
    sessions = sorted(report["sessions"], key=lambda one: not needs_attention(one, report["command"]))
    rows = [_session(at, one, report["server"]) for at, one in enumerate(sessions)]
    details = [_details(one, pictures, report["command"]) for one in sessions]
    for one, row in zip(details[DRAWN:], rows[DRAWN:], strict=True):
        one["row"] = row
    return Template(_text("page.html")).substitute(
        title=escape(f"{report['command']} {report['project']}: {_headline(report)}"),
        script_hash=f"sha256-{b64encode(hashlib.sha256(script.encode()).digest()).decode()}",
        script=script,
        tone=_tone(report),
        headline=escape(_headline(report)),
        meaning=escape(f"Exit code {report['exit_code']}: {EXIT_MEANING[Exit(report['exit_code'])]}."),
        facts="".join(f"<li>{fact}</li>" for fact in _facts(report)),
        wrong=_wrong(report),
        bar=_bar(report["totals"]) + _key(report["totals"]),
        timeline=_timeline(sessions),
        words="".join(f'<option value="{word}">{word}</option>' for word in _words(sessions)),
        sessions="\n".join(rows[:DRAWN]) + _without_script(len(rows)),
        aside=_aside(report["set_aside"]),
        footer=escape(
            f"{report['tool']['name']} {report['tool']['version']}, {report['started']} to {report['finished']}"
        ),
        data=_json({"drawn": DRAWN, "sessions": details}),
    )


def _without_script(number: int) -> str:
    if number <= DRAWN:
        return ""
    return f"<noscript><p>The first {DRAWN} of {number} sessions; the others need this page's script.</p></noscript>"


def _text(name: str) -> str:
    return resources.files("xnat_ingest.report").joinpath(name).read_text("utf-8")


def _json(value: object) -> str:
    """JSON that cannot end the script element that it stands in."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def _tone(report: Report) -> str:
    code = report["exit_code"]
    if code == Exit.OK:
        return "good"
    return "warn" if code in (Exit.NOTHING, Exit.INTERRUPTED, Exit.TERMINATED) else "bad"


def _headline(report: Report) -> str:
    totals, command = report["totals"], report["command"]
    care = sum(needs_attention(one, command) for one in report["sessions"])
    if command == "plan":
        return f"{totals['planned']} instances in {len(report['sessions'])} sessions would be sent"
    seen = totals["verified"] + totals["counted"]
    if report["exit_code"] == Exit.OK:
        return f"All {seen} instances are on the server" if totals["planned"] else "Nothing was to be sent"
    where = f"; {care} of {len(report['sessions'])} sessions need attention" if care else ""
    return f"{seen} of {totals['planned']} instances are on the server{where}"


def needs_attention(session: Report, command: str) -> bool:
    """Whether somebody has to do something about this session."""
    fine = ("verified", "counted", "skipped", *(("unverified",) if command == "plan" else ()))
    return session["verdict"] not in fine


def _facts(report: Report) -> Iterator[str]:
    totals = report["totals"]
    project, server = report["project"], report["server"]
    link = _link(server, f"/data/projects/{project}", project) if project else "several"
    yield f"project {link}"
    if server:
        yield f"server {escape(server)}"
    yield f"{totals['already_there']} instances were there already"
    yield f"{amount(totals.get('bytes_sent', 0))} sent in {_duration(totals.get('seconds', 0))}"
    yield f"{totals['set_aside']} files set aside"
    if report["destination"]:
        yield f"destination {escape(report['destination'])}, transport {escape(report['transport'])}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"


def _link(server: str, path: str, text: str) -> str:
    """A link into XNAT's web pages; plain text where there is no server, or its address is none of the web's."""
    if not server.startswith(("https://", "http://")) or not path.startswith("/"):
        return escape(text)
    target = server + ("/app/template/XDATScreen_prearchives.vm" if "/prearchive/" in path else f"{path}?format=html")
    return f'<a href="{escape(target)}" rel="noreferrer">{escape(text)}</a>'


def _wrong(report: Report) -> str:
    """What needs attention, grouped by its kind, and then remarks on sessions that are fine."""
    care = {one["label"] for one in report["sessions"] if needs_attention(one, report["command"])}
    serious = [p for p in report["problems"] if care.intersection(p["sessions"]) or p["kind"] in RUN_KINDS]
    wrong = "".join((*_problem_cards(serious), *_reason_cards(report["set_aside"])))
    remarks = "".join(_problem_cards([one for one in report["problems"] if one not in serious]))
    return (f"<h2>What is wrong, and what to do</h2>{wrong}" if wrong else "") + (
        f"<h2>Remarks</h2>{remarks}" if remarks else ""
    )


def _problem_cards(problems: Sequence[Report]) -> Iterator[str]:
    kinds: dict[str, list[str]] = defaultdict(list)
    for problem in problems:
        kinds[problem["kind"]].append(problem["detail"])
    for kind, details in kinds.items():
        yield _card(kind, len(details), details[:SHOWN_PROBLEMS])


def _reason_cards(asides: Sequence[Report]) -> Iterator[str]:
    reasons: dict[str, list[str]] = defaultdict(list)
    for aside in asides:
        if not is_note(aside["reason"]):
            detail = f": {aside['detail']}" if aside["detail"] else ""
            reasons[aside["reason"]].append(f"{aside['path']}{detail}")
    for reason, files in reasons.items():
        yield _card(reason, len(files), files[:SHOWN_PROBLEMS], "file")


def _card(kind: str, number: int, examples: Sequence[str], unit: str = "") -> str:
    means, fix = advice_on(kind)
    count = f" ({number} {unit}{'s' if number > 1 else ''})" if unit else f" ({number})" if number > 1 else ""
    more = f"<li>... and {number - len(examples)} more, all in the JSON report</li>" if number > len(examples) else ""
    return (
        f'<section class="card"><h3>{escape(kind)}{count}</h3>'
        + (f"<p>{escape(means)}</p>" if means else "")
        + (f'<p class="fix">{escape(fix)}</p>' if fix else "")
        + f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in examples)}{more}</ul></section>"
    )


def _bar(counts: Mapping[str, float]) -> str:
    total = sum(counts[state] for state in STATES) or 1
    parts = (f'<i class="{s}" style="width:{100 * counts[s] / total:.2f}%"></i>' for s in STATES if counts[s])
    return f'<div class="bar" aria-hidden="true">{"".join(parts)}</div>'


def _key(totals: Mapping[str, float]) -> str:
    items = (f'<li><i class="{state}"></i>{totals[state]:g} {state}</li>' for state in STATES if totals[state])
    return f'<ul class="key">{"".join(items)}</ul>'


def _timeline(sessions: Sequence[Report]) -> str:
    """One bar for each session, over the time of the run."""
    timed = [(float(one["began"]), float(one["seconds"]), one) for one in sessions if "began" in one and one["seconds"]]
    if len(timed) < 2:
        return ""
    end = max(began + seconds for began, seconds, _ in timed) or 1.0
    bars = []
    for began, seconds, one in sorted(timed, key=lambda entry: entry[0])[:SHOWN_BARS]:
        place = f"left:{100 * began / end:.2f}%;width:{100 * seconds / end:.2f}%"
        title = escape(f"{one['label']}: {_duration(seconds)}")
        bars.append(f'<div title="{title}"><i class="{_state(one)}" style="{place}"></i></div>')
    note = f" The first {SHOWN_BARS} sessions are drawn." if len(timed) > SHOWN_BARS else ""
    return (
        f'<h2>Timeline</h2><p class="soft">Each bar is a session, from its start to its end, over '
        f'{_duration(end)}.{note}</p><div class="timeline" role="img" '
        f'aria-label="timeline of {len(timed)} sessions" tabindex="0">{"".join(bars)}</div>'
    )


def _state(session: Report) -> str:
    word: str = session["verdict"]
    return {"conflict": "failed", "skipped": "unverified"}.get(word, word)


def _words(sessions: Iterable[Report]) -> list[str]:
    return sorted({one["verdict"] for one in sessions})


def _counts(session: Report) -> dict[str, int]:
    """The session's instances by state. What is not unproven was seen."""
    unproven = Counter(one["state"] for one in session["unproven"])
    seen = session["instances"] - unproven.total()
    state = "counted" if session["verdict"] == "counted" else "verified"
    if not session["unproven"] and session["verdict"] == "unverified":
        state = "unverified"  # a plan names no instance
    counts = dict.fromkeys(STATES, 0) | unproven
    counts[state] += seen
    return counts


def _session(at: int, session: Report, server: str) -> str:
    counts = _counts(session)
    seen = counts["verified"] + counts["counted"]
    word, label = session["verdict"], session["label"]
    title = f"{session['subject']} / {label}"
    link = f"<p>{_link(server, session['uri'], 'Open in XNAT')}</p>" if session["uri"] and server else ""
    problems = "".join(f"<li>{escape(one['detail'])}</li>" for one in session["problems"])
    return (
        f'<details class="session" data-at="{at}"><summary>'
        f'<b>{escape(title)}</b><span class="word is-{word}">{word.upper()}</span>{_bar(counts)}'
        f'<span class="num">{seen}/{session["instances"]} instances</span>'
        f'<span class="num">{amount(session["bytes"])}</span></summary><div class="inside">'
        f'<p class="soft">from {escape(session["folder"])}, {len(session["scans"])} scans, '
        f"{_duration(session['seconds'])}</p>{link}{f'<ul>{problems}</ul>' if problems else ''}</div></details>"
    )


def _details(session: Report, pictures: Pictures, command: str) -> dict[str, Any]:
    """What the script shows of a session when it is opened, and the text that a search looks through."""
    scans = sorted(session["scans"], key=_number)
    texts = [session["subject"], session["label"], session["folder"], *(s["description"] for s in scans)]
    unproven = session["unproven"]
    return {
        "word": session["verdict"],
        "care": needs_attention(session, command),
        "text": " ".join(texts).lower(),
        "scans": [
            [s["id"], s["description"], s["modality"], s["instances"], s["verified"], s.get("read_back", "")]
            for s in scans
        ],
        "unproven": [[one["path"], one["state"], one["why"]] for one in unproven[:SHOWN_UNPROVEN]],
        "more": max(0, len(unproven) - SHOWN_UNPROVEN),
        "sheet": [
            [pictures[s["series_uid"]], f"{s['id']} {s['description']}"] for s in scans if s["series_uid"] in pictures
        ],
    }


def _number(scan: Report) -> tuple[bool, int, str]:
    """Scans in the order of their numbers; those without one come last."""
    number = scan["id"]
    return (not number.isdecimal(), int(number) if number.isdecimal() else 0, number)


def _aside(asides: Sequence[Report]) -> str:
    """All files set aside, by reason, with some examples."""
    if not asides:
        return ""
    reasons: dict[str, list[str]] = defaultdict(list)
    for aside in asides:
        reasons[aside["reason"]].append(aside["path"])
    rows = "".join(
        f'<tr><td>{escape(reason)}</td><td class="num">{len(paths)}</td><td>{escape(advice_on(reason).means)}</td>'
        f"<td>{'<br>'.join(escape(path) for path in paths[:SHOWN_EXAMPLES])}"
        f"{'<br>...' if len(paths) > SHOWN_EXAMPLES else ''}</td></tr>"
        for reason, paths in sorted(reasons.items(), key=lambda item: -len(item[1]))
    )
    head = '<tr><th scope="col">reason</th><th scope="col" class="num">files</th><th scope="col">meaning</th>'
    return (
        "<h2>Files set aside</h2>"
        '<div class="scroll" tabindex="0" role="region" aria-label="Files set aside"><table>'
        f'<thead>{head}<th scope="col">for example</th></tr></thead><tbody>{rows}</tbody></table></div>'
    )
