"""The report as one page for people: what is wrong and what to do first, then session by session what was proven.

The page is made from the JSON report alone, so that a saved report can be shown later. It needs nothing from
elsewhere: style, script, data and pictures are inside, and its content policy forbids every request. All foreign text
goes through `escape` or, as JSON, into text nodes.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from base64 import b64encode
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib import resources
from string import Template
from typing import Any

from xnat_ingest.core import EXIT_MEANING, Exit, IngestError, count_of, is_note
from xnat_ingest.core.atomic_file import replacing
from xnat_ingest.report.advice import RUN_KINDS, TITLES, advice_on
from xnat_ingest.report.progress import amount

STATES = ("verified", "counted", "unverified", "missing", "held", "failed")
# What people read for a state or a verdict, where the report's own word would mislead them.
STATE_NAMES = {"held": "held back", "unverified": "not checked"}
# Rows of one session, files of one reason, sessions of one problem: the JSON report has them all.
SHOWN_UNPROVEN = 200
SHOWN_EXAMPLES = 5
SHOWN_PROBLEMS = 20
# Sessions that stand in the page from the start; the script draws further ones when they are asked for.
DRAWN = 200
# A timeline of more sessions than this is a grey wall.
SHOWN_BARS = 400
# A flag, which a browser would break behind its hyphens.
_FLAG = re.compile(r"(?<![\w-])(--[a-z-]+\w)")
_UNBROKEN = r"<span class=flag>\1</span>"
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
    script, report = _text("page.js"), _with_lost_files(report)
    sessions = sorted(report["sessions"], key=lambda one: not needs_attention(one, report["command"]))
    rows = [_session(at, one, report["server"], report["command"]) for at, one in enumerate(sessions)]
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
        bar=_totals(report),
        timeline=_timeline(sessions),
        words="".join(
            f'<option value="{word}">{word}</option>' for word in sorted({escape(one["verdict"]) for one in sessions})
        ),
        sessions="\n".join(rows[:DRAWN]) + _without_script(len(rows)),
        aside=_aside(report["set_aside"]),
        footer=escape(
            f"{report['tool']['name']} {report['tool']['version']}, {report['started']} to {report['finished']}"
        ),
        data=_json({"drawn": DRAWN, "sessions": details}),
    )


def _with_lost_files(report: Report) -> Report:
    """The report with `lost` in each session: files in its folder that are not sent because something is wrong."""
    folders = {one["folder"]: number for number, one in enumerate(report["sessions"])}
    lost: dict[int, list[Report]] = defaultdict(list)
    for aside in report["set_aside"]:
        if not is_note(aside["reason"]):
            parents = itertools.accumulate(aside["path"].split("/")[:-1], lambda one, other: f"{one}/{other}")
            for number in [folders[parent] for parent in parents if parent in folders][-1:]:
                lost[number].append(aside)
    sessions = [{**one, "lost": lost[number]} for number, one in enumerate(report["sessions"])]
    return {**report, "sessions": sessions}


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
        held = [one for one in report["sessions"] if one["verdict"] == "conflict"]
        rest = totals["planned"] - sum(one["instances"] for one in held)
        would = (
            f"{count_of(rest, 'instance')} in {count_of(len(report['sessions']) - len(held), 'session')} would be sent"
        )
        return f"{would}; {count_of(len(held), 'session')} held back because of a conflict" if held else would
    seen = totals["verified"] + totals["counted"]
    if report["exit_code"] == Exit.NOTHING:
        return "Nothing was to be sent"
    if report["exit_code"] == Exit.OK and totals["unverified"]:
        return f"{seen} of {totals['planned']} instances were seen on the server; the others were not looked for"
    if report["exit_code"] == Exit.OK:
        return f"All {seen} instances are on the server" if totals["planned"] else "Nothing was to be sent"
    where = f"; {care} of {count_of(len(report['sessions']), 'session')} need attention" if care else ""
    return f"{seen} of {totals['planned']} instances are on the server{where}"


def needs_attention(session: Report, command: str) -> bool:
    """Whether somebody has to do something about this session."""
    fine = ("verified", "counted", "skipped", *(("unverified",) if command == "plan" else ()))
    return session["verdict"] not in fine or bool(session.get("lost"))


def _facts(report: Report) -> Iterator[str]:
    totals = report["totals"]
    project, server = report["project"], report["server"]
    link = _link(server, f"/data/projects/{project}", project) if project else "several"
    if report.get("root"):
        yield f"ROOT {escape(report['root'])}"
    yield f"project {link}"
    if server:
        yield f"server {escape(server)}"
    yield f"{count_of(totals['already_there'], 'instance')} there already"
    yield f"{amount(totals.get('bytes_sent', 0))} sent in {_duration(totals.get('seconds', 0))}"
    yield f"{count_of(totals['set_aside'], 'file')} set aside"
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
    serious, others = list[Report](), list[Report]()
    for one in report["problems"]:
        is_serious = care.intersection(one["sessions"]) or one["kind"] in RUN_KINDS or one.get("spoils")
        (serious if is_serious else others).append(one)
    told = {label for one in serious for label in one["sessions"]}
    untold = care - told
    verdicts = _verdict_cards([one for one in report["sessions"] if one["label"] in untold])
    wrong = "".join((*_problem_cards(serious), *verdicts, *_reason_cards(report["set_aside"])))
    remarks = "".join(_problem_cards(others))
    return (f"<h2>What is wrong, and what to do</h2>{wrong}" if wrong else "") + (
        f'<div class="remarks"><h2>Remarks</h2>{remarks}</div>' if remarks else ""
    )


def _problem_cards(problems: Sequence[Report]) -> Iterator[str]:
    """A card for each kind. Where its problems have one remedy, it is told once, and the examples are the facts."""
    kinds: dict[str, list[Report]] = defaultdict(list)
    for problem in problems:
        kinds[problem["kind"]].append(problem)
    for kind, members in kinds.items():
        fixes = {one.get("fix", "") for one in members}
        fix = fixes.pop() if len(fixes) == 1 else ""
        details = [one["detail"].removesuffix(f"; {fix}") for one in members[:SHOWN_PROBLEMS]]
        yield _card(kind, len(members), details, fix=f"{fix[0].upper()}{fix[1:]}." if fix else "")


def _verdict_cards(sessions: Sequence[Report]) -> Iterator[str]:
    """A card for each verdict, of sessions that need attention without a problem that says why."""
    verdicts: dict[str, list[str]] = defaultdict(list)
    for one in sessions:
        verdicts[one["verdict"]].append(f"{one['project']}/{one['subject']}/{one['label']}")
    for verdict, titles in verdicts.items():
        yield _card(verdict, len(titles), titles[:SHOWN_PROBLEMS], "session")


def _reason_cards(asides: Sequence[Report]) -> Iterator[str]:
    reasons: dict[str, list[str]] = defaultdict(list)
    for aside in asides:
        if not is_note(aside["reason"]):
            detail = f": {aside['detail']}" if aside["detail"] else ""
            reasons[aside["reason"]].append(f"{aside['path']}{detail}")
    for reason, files in reasons.items():
        yield _card(reason, len(files), files[:SHOWN_PROBLEMS], "file")


def _card(kind: str, number: int, examples: Sequence[str], unit: str = "", fix: str = "") -> str:
    """fix: what to do, if these problems say it more exactly than their kind."""
    means, usual = advice_on(kind)
    fix = fix or usual
    count = f" ({number} {unit}{'s' if number > 1 else ''})" if unit else f" ({number})" if number > 1 else ""
    more = f"<li>... and {number - len(examples)} more, all in the JSON report</li>" if number > len(examples) else ""
    return (
        f'<section class="card"><h3>{escape(TITLES.get(kind, kind))}{count}</h3>'
        + (f"<p>{escape(means)}</p>" if means else "")
        + (f'<p class="fix">{_FLAG.sub(_UNBROKEN, escape(fix))}</p>' if fix else "")
        + f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in examples)}{more}</ul></section>"
    )


def _totals(report: Report) -> str:
    """The bar of the whole run, what its colours mean, and a remark on what is only counted."""
    sums: Counter[str] = Counter()
    for one in report["sessions"]:
        sums.update(_counts(one))
    counted = advice_on("counted").means if sums["counted"] else ""
    return _bar(sums) + _key(sums) + (f'<p class="soft">counted: {escape(counted)}</p>' if counted else "")


def _bar(counts: Mapping[str, float]) -> str:
    total = sum(counts[state] for state in STATES) or 1
    parts = (f'<i class="{s}" style="width:{100 * counts[s] / total:.2f}%"></i>' for s in STATES if counts[s])
    return f'<div class="bar" aria-hidden="true">{"".join(parts)}</div>'


def _key(totals: Mapping[str, float]) -> str:
    items = (
        f'<li><i class="{state}"></i>{totals[state]:g} {STATE_NAMES.get(state, state)}</li>'
        for state in STATES
        if totals[state]
    )
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
        bars.append(f'<div title="{title}"><i class="{escape(_state(one))}" style="{place}"></i></div>')
    note = f" The first {SHOWN_BARS} sessions are drawn." if len(timed) > SHOWN_BARS else ""
    return (
        f'<h2>Timeline</h2><p class="soft">Each bar is a session, from its start to its end, over '
        f'{_duration(end)}.{note}</p><div class="timeline" role="img" '
        f'aria-label="timeline of {len(timed)} sessions" tabindex="0">{"".join(bars)}</div>'
    )


def _state(session: Report) -> str:
    word: str = session["verdict"]
    return {"conflict": "held", "skipped": "unverified"}.get(word, word)


def _word(session: Report, command: str) -> str:
    """The verdict as people read it."""
    if session["verdict"] != "unverified":
        return str(session["verdict"])
    if command == "plan":
        return "planned"
    return "not started" if _not_started(session) else "unverified"


def _not_started(session: Report) -> str:
    """Why nothing was done with a session that has no fault of its own; "" when something was."""
    reasons = {one["why"] for one in session["unproven"]}
    whole = session["verdict"] == "unverified" and len(session["unproven"]) == session["instances"]
    is_untouched = whole and not (session["attempts"] or session["uri"])
    return str(reasons.pop()) if is_untouched and len(reasons) == 1 else ""


def _counts(session: Report) -> dict[str, int]:
    """The session's instances by state. What is not unproven was seen."""
    if session["verdict"] == "conflict":
        return dict.fromkeys(STATES, 0) | {"held": session["instances"]}
    unproven = Counter(one["state"] for one in session["unproven"])
    seen = session["instances"] - unproven.total()
    state = "counted" if session["verdict"] == "counted" else "verified"
    if not session["unproven"] and session["verdict"] == "unverified":
        state = "unverified"  # a plan names no instance
    counts = dict.fromkeys(STATES, 0) | unproven
    counts[state] += seen
    return counts


def _session(at: int, session: Report, server: str, command: str) -> str:
    counts = _counts(session)
    seen = counts["verified"] + counts["counted"]
    proven = str(session["instances"]) if command == "plan" else f"{seen}/{session['instances']}"
    word, label = escape(session["verdict"]), session["label"]
    shown_word = escape(_word(session, command).upper())
    title = f"{session['subject']} / {label}"
    link = f"<p>{_link(server, session['uri'], 'Open in XNAT')}</p>" if session["uri"] and server else ""
    problems = "".join(f"<li>{escape(one['detail'])}</li>" for one in session["problems"])
    if word == "conflict":
        link += "<p>Held back because of a conflict: nothing of this session was sent.</p>"
    lost = [f"{one['path']}: {one['reason']} {one['detail']}".rstrip() for one in session["lost"]]
    if lost:
        shown = "".join(f"<li>{escape(one)}</li>" for one in lost[:SHOWN_EXAMPLES])
        link += f"<p>{count_of(len(lost), 'file')} in this folder cannot be sent:</p><ul>{shown}</ul>"
    if why := _not_started(session):
        link += f"<p>Not started: {escape(why)}. This session has no conflict of its own.</p>"
    return (
        f'<details class="session" data-at="{at}"><summary>'
        f'<b>{escape(title)}</b><span class="word is-{word}">{shown_word}</span>{_bar(counts)}'
        f'<span class="num">{proven} instances{_lost_note(len(lost))}</span>'
        f'<span class="num">{amount(session["bytes"])}</span></summary><div class="inside">'
        f'<p class="soft">from {escape(session["folder"])}, {count_of(len(session["scans"]), "scan")}, '
        f"{_duration(session['seconds'])}</p>{link}{f'<ul>{problems}</ul>' if problems else ''}</div></details>"
    )


def _lost_note(number: int) -> str:
    return f", {count_of(number, 'file')} not sent" if number else ""


def _details(session: Report, pictures: Pictures, command: str) -> dict[str, Any]:
    """What the script shows of a session when it is opened, and the text that a search looks through."""
    scans = sorted(session["scans"], key=_number)
    texts = [session["subject"], session["label"], session["folder"], *(s["description"] for s in scans)]
    unproven = [] if _not_started(session) else session["unproven"]
    state = STATE_NAMES["held"] if session["verdict"] == "conflict" else ""
    studies = list(dict.fromkeys(s.get("study_uid", "") for s in scans))
    numbers = {study: number for number, study in enumerate(studies, 1)}
    return {
        "word": session["verdict"],
        "care": needs_attention(session, command),
        "text": " ".join(texts).lower(),
        "studies": studies if len(studies) > 1 else [],
        "scans": [
            [
                *([numbers[s.get("study_uid", "")]] if len(studies) > 1 else []),
                *(s["id"], s["description"], s["modality"], s["instances"], s["verified"], s.get("read_back", "")),
                s.get("folder", ""),
            ]
            for s in scans
        ],
        "unproven": [[one["path"], state or one["state"], one["why"]] for one in unproven[:SHOWN_UNPROVEN]],
        "more": max(0, len(unproven) - SHOWN_UNPROVEN),
        "sheet": [
            [pictures[s["series_uid"]], f"{s['id']} {s['description']}"] for s in scans if s["series_uid"] in pictures
        ],
    }


def _number(scan: Report) -> tuple[bool, int, str]:
    """Scans in the order of their numbers; those without one come last."""
    number = scan["id"]
    is_number = number.isdecimal() and len(number) <= 12  # the greatest length of a DICOM integer
    return (not is_number, int(number) if is_number else 0, number)


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
