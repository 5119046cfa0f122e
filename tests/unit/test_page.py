"""The report as a page, as JUnit XML and as GitHub's annotations: what they say, and that foreign text stays text."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from xnat_ingest.core.errors import Exit, IngestError
from xnat_ingest.report.github import workflow_commands, write_summary
from xnat_ingest.report.html import DRAWN, SHOWN_PROBLEMS, SHOWN_UNPROVEN, page
from xnat_ingest.report.junit import write_junit
from xnat_ingest.report.saved import read_report

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&\u2028\x1b[31m"


def session(label: str = "007_pre", verdict: str = "verified", unproven: int = 0, **changes: Any) -> dict[str, Any]:
    state = "failed" if verdict == "conflict" else verdict
    made: dict[str, Any] = {
        "project": "P",
        "subject": "007",
        "label": label,
        "folder": "007/pre",
        "study_uid": "1.2",
        "uri": "/data/experiments/XNAT_E1",
        "verdict": verdict,
        "instances": 10,
        "bytes": 1000,
        "attempts": 1,
        "scans": [
            {
                "id": "3",
                "series_uid": "1.2.3",
                "description": "T1",
                "modality": "MR",
                "instances": 10,
                "verified": 10 - unproven,
            }
        ],
        "missing": [],
        "unproven": [
            {"sop_uid": f"1.{n}", "path": f"007/pre/IM{n}", "state": state, "why": "not on the server"}
            for n in range(unproven)
        ],
        "problems": [],
        "began": 0.5,
        "seconds": 1.5,
    }
    return made | changes


def report(*sessions: dict[str, Any], code: int = 0, command: str = "upload", **changes: Any) -> dict[str, Any]:
    planned = sum(one["instances"] for one in sessions)
    states = [one["state"] for made in sessions for one in made["unproven"]]
    zero = "set_aside", "excluded", "counted", "missing", "failed", "unverified", "already_there", "bytes_sent"
    totals: dict[str, int] = dict.fromkeys(zero, 0)
    totals |= {state: states.count(state) for state in set(states)}
    totals |= {"planned": planned, "verified": planned - len(states), "seconds": 3}
    made: dict[str, Any] = {
        "schema": 1,
        "tool": {"name": "xnat-ingest-container", "version": "9.9"},
        "command": command,
        "started": "2024-01-01T00:00:00+00:00",
        "finished": "2024-01-01T00:00:03+00:00",
        "exit_code": code,
        "server": "https://xnat.example.org",
        "project": "P",
        "destination": "archive",
        "transport": "archive",
        "totals": totals,
        "sessions": list(sessions),
        "set_aside": [],
        "problems": [problem for one in sessions for problem in one["problems"]],
    }
    return made | changes


class Text(HTMLParser):
    """The page's texts, elements and addresses; what is in scripts apart."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [str(value) for name, value in attrs if name in ("href", "src")]
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        (self.scripts if self.tags[-1:] == ["script"] else self.texts).append(data)

    @property
    def shown(self) -> str:
        return " ".join(" ".join(self.texts).split())


def seen(made: dict[str, Any]) -> str:
    return Text(page(made, {})).shown


def test_all_is_well() -> None:
    shown = seen(report(session(), session("007_post")))
    assert "All 20 instances are on the server" in shown
    assert "What is wrong" not in shown


def test_what_is_wrong_comes_first_with_what_to_do() -> None:
    problem = {"kind": "two-studies", "detail": "folder 007/pre holds two studies", "sessions": ["007_pre"]}
    remark = {"kind": "rule-unused", "detail": "the rule X matched nothing", "sessions": []}
    made = report(session(verdict="conflict", unproven=10, problems=[problem]), session("007_post"), code=3)
    made["problems"].append(remark)
    shown = seen(made)
    assert "10 of 20 instances are on the server; 1 of 2 sessions need attention" in shown
    order = ["What is wrong", "two-studies", "Split the folder", "Remarks", "rule-unused", "Timeline", "Sessions"]
    assert [shown.index(word) for word in order] == sorted(shown.index(word) for word in order)


def test_a_remark_is_not_wrong() -> None:
    made = report(session(), problems=[{"kind": "rule-unused", "detail": "the rule X matched nothing", "sessions": []}])
    assert "What is wrong" not in seen(made)
    assert "Remarks" in seen(made)


def test_files_with_a_problem_are_named_and_others_only_counted() -> None:
    aside = [{"path": f"a/{n}", "reason": "truncated", "detail": "ends early"} for n in range(SHOWN_PROBLEMS + 2)]
    made = report(session(), code=3, set_aside=[*aside, {"path": "x.txt", "reason": "not-dicom", "detail": ""}])
    shown = seen(made)
    assert "What is wrong, and what to do truncated (22 files)" in shown
    assert f"a/{SHOWN_PROBLEMS - 1}: ends early" in shown
    assert f"a/{SHOWN_PROBLEMS}: ends early" not in shown
    assert "... and 2 more, all in the JSON report" in shown


@pytest.mark.parametrize("code", list(Exit))
def test_every_exit_code_has_a_page(code: int) -> None:
    assert f"Exit code {int(code)}:" in seen(report(session(), code=int(code)))


def test_a_plan_has_a_page() -> None:
    made = report(session(verdict="unverified"), command="plan")
    assert "10 instances in 1 session would be sent" in seen(made)
    assert '"care":false' in page(made, {})


def test_what_was_held_back_is_not_called_failed_nor_proven() -> None:
    """In an upload, and in a plan, whose report names no instance."""
    held = session(verdict="conflict", unproven=10)
    shown = seen(report(held, session("007_post", "failed", 3), code=3))
    assert "7 verified 10 held back 3 failed" in shown
    assert "Held back because of a conflict: nothing of this session was sent." in shown
    planned = report(session(verdict="conflict"), session("x", verdict="unverified"), command="plan", code=3)
    shown = seen(planned)
    assert "10 instances in 1 session would be sent; 1 session held back because of a conflict" in shown
    assert "10 not checked 10 held back" in shown
    assert "007 / x PLANNED" in shown


def test_a_session_that_was_not_started_says_why_and_that_it_has_no_fault() -> None:
    one = session(verdict="unverified", unproven=10, attempts=0, uri="")
    text = page(report(one, code=3), {})
    assert "NOT STARTED" in text
    assert "Not started: not on the server. This session has no conflict of its own." in text
    for attempts, uri in ((1, ""), (0, "/data/experiments/XNAT_E1")):
        looked_at = session(verdict="unverified", unproven=10, attempts=attempts, uri=uri)
        assert "NOT STARTED" not in page(report(looked_at, code=3), {})


def test_the_remedy_of_many_problems_stands_once() -> None:
    many = [{"kind": "two-studies", "detail": f"folder {n}; cut it", "sessions": [], "fix": "cut it"} for n in range(3)]
    shown = seen(report(session(), problems=many))
    assert "Cut it. folder 0 folder 1 folder 2" in shown
    many[0] |= {"detail": "folder 0; burn it", "fix": "burn it"}
    shown = seen(report(session(), problems=many))
    assert "folder 0; burn it folder 1; cut it folder 2; cut it" in shown
    assert "Split the folder" in shown


def test_root_and_the_study_of_each_series_are_shown() -> None:
    one = session()["scans"][0]
    scans = [{**one, "id": str(n), "study_uid": f"1.{n % 2}", "folder": f"007/pre/s{n}"} for n in range(3)]
    text = page(report(session(scans=scans), root="/data/<study>"), {})
    assert "ROOT /data/&lt;study&gt;" in text
    found = json.loads(re.findall(r'id="data">(.*?)</script>', text)[0])["sessions"][0]
    assert found["studies"] == ["1.0", "1.1"]
    assert [(scan[0], scan[1], scan[-1]) for scan in found["scans"]] == [
        (1, "0", "007/pre/s0"),
        (2, "1", "007/pre/s1"),
        (1, "2", "007/pre/s2"),
    ]
    same = page(report(session(scans=[{**one, "study_uid": "1.0"}])), {})
    assert json.loads(re.findall(r'id="data">(.*?)</script>', same)[0])["sessions"][0]["studies"] == []


def test_scans_stand_in_the_order_of_their_numbers() -> None:
    one = session()["scans"][0]
    scans = [{**one, "id": number} for number in ("10", "", "2", "x", "1")]
    found = json.loads(re.findall(r'id="data">(.*?)</script>', page(report(session(scans=scans)), {}))[0])
    assert [scan[0] for scan in found["sessions"][0]["scans"]] == ["1", "2", "10", "", "x"]


def test_a_session_whose_folder_has_damaged_files_needs_attention() -> None:
    """All of its instances are verified, and still it is not complete."""
    asides = [
        {"path": "007/pre/T1/IM9", "reason": "truncated", "detail": "30 bytes are absent"},
        {"path": "007/pre/notes.txt", "reason": "not-dicom", "detail": ""},
        {"path": "009/pre/x", "reason": "unreadable", "detail": ""},
    ]
    made = report(session(), session("008_pre", folder="008/pre"), code=3) | {"set_aside": asides}
    shown = page(made, {})
    assert "1 of 2 sessions need attention" in shown
    assert "10/10 instances, 1 file not sent<" in shown
    assert (
        "1 file in this folder cannot be sent:</p><ul><li>007/pre/T1/IM9: truncated 30 bytes are absent</li>" in shown
    )


def test_what_needs_attention_comes_first_and_many_sessions_are_drawn_when_asked_for() -> None:
    sessions = [session(f"s{n}") for n in range(DRAWN + 50)] + [session("bad", "missing", 1)]
    text = page(report(*sessions, code=3), {})
    drawn = re.findall(r"<details.*?<b>007 / (\w+)</b>", text.partition('<script type="application/json"')[0])
    assert drawn == ["bad", *(f"s{n}" for n in range(DRAWN - 1))]
    found = json.loads(re.findall(r'id="data">(.*?)</script>', text)[0])
    assert found["drawn"] == DRAWN
    assert [one["care"] for one in found["sessions"]] == [True] + [False] * (DRAWN + 50)
    assert ["row" in one for one in found["sessions"]] == [False] * DRAWN + [True] * 51
    assert f"The first {DRAWN} of {DRAWN + 51} sessions" in text
    assert "noscript" not in page(report(*sessions[:DRAWN]), {})


def test_foreign_text_stays_text() -> None:
    """In every place of the report that a server or a file can fill."""
    one = session(label=HOSTILE, subject=HOSTILE, folder=HOSTILE, uri=f"/data/{HOSTILE}", verdict="missing", unproven=1)
    one["scans"][0] |= {"description": HOSTILE, "modality": HOSTILE, "id": HOSTILE}
    one["unproven"][0] |= {"path": HOSTILE, "why": HOSTILE}
    one["problems"] = [{"kind": HOSTILE, "detail": HOSTILE, "sessions": [HOSTILE]}]
    aside = [{"path": HOSTILE, "reason": HOSTILE, "detail": HOSTILE}]
    made = report(one, code=3, set_aside=aside, project=HOSTILE, server=f"https://x/{HOSTILE}", transport=HOSTILE)
    found = Text(page(made, {}))
    assert found.tags.count("script") == 2
    assert "img" not in found.tags
    assert json.loads(found.scripts[0])["sessions"][0]["scans"][0][1] == HOSTILE


@pytest.mark.parametrize("server", ["", "javascript:alert(1)", "file:///etc", "data:text/html,x"])
def test_only_the_webs_addresses_become_links(server: str) -> None:
    assert Text(page(report(session(), server=server), {})).links == []


def test_links_lead_into_xnat() -> None:
    sessions = session(), session("007_post", uri="/data/prearchive/projects/P/20240101/007_post")
    links = Text(page(report(*sessions), {})).links
    assert links == [
        "https://xnat.example.org/data/projects/P?format=html",
        "https://xnat.example.org/data/experiments/XNAT_E1?format=html",
        "https://xnat.example.org/app/template/XDATScreen_prearchives.vm",
    ]


def test_pictures_are_inside() -> None:
    found = Text(page(report(session()), {"1.2.3": "data:image/png;base64,AAAA"}))
    assert json.loads(found.scripts[0])["sessions"][0]["sheet"] == [["data:image/png;base64,AAAA", "3 T1"]]


def test_the_script_is_the_one_that_the_policy_allows() -> None:
    import hashlib
    from base64 import b64encode

    text = page(report(session()), {})
    script = text[text.rindex("<script>") + 8 : text.rindex("</script>")]
    allowed = re.search(r"script-src 'sha256-([^']+)'", text)
    assert allowed
    assert allowed[1] == b64encode(hashlib.sha256(script.encode()).digest()).decode()


def test_long_lists_are_cut_and_said() -> None:
    one = session(verdict="missing", unproven=SHOWN_UNPROVEN + 5, instances=1000)
    data = json.loads(Text(page(report(one, code=3), {})).scripts[0])["sessions"][0]
    assert (len(data["unproven"]), data["more"]) == (SHOWN_UNPROVEN, 5)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 2, "sessions": []}', '{"schema": 1}', "[" * 100000])
def test_what_is_no_report(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(IngestError, match=r"x\.json"):
        read_report(str(tmp_path / "x.json"))


def test_junit(tmp_path: Path) -> None:
    problem = {"kind": "two-studies", "detail": f"two studies {HOSTILE}", "sessions": ["007_pre"]}
    sessions = session(verdict="conflict", unproven=2, problems=[problem]), session("b"), session("c", "skipped")
    aside = [{"path": "x", "reason": "truncated", "detail": ""}, {"path": "y", "reason": "not-dicom", "detail": ""}]
    write_junit(str(tmp_path / "j.xml"), report(*sessions, code=3, set_aside=aside))
    root = ET.parse(tmp_path / "j.xml").getroot()
    assert (root.get("tests"), root.get("failures")) == ("4", "2")
    cases = {case.get("name"): [child.tag for child in case] for case in root.iter("testcase")}
    assert cases == {"007_pre": ["failure"], "b": [], "c": ["skipped"], "files set aside": ["failure"]}
    failure = root.find(".//failure")
    assert failure is not None
    assert failure.get("message") == "conflict: 2 instances are not proven"
    assert "007/pre/IM1: failed, not on the server" in str(failure.text)


@pytest.mark.parametrize("spoils", [False, True])
def test_what_makes_the_exit_code_is_no_remark(spoils: bool) -> None:
    problem = {"kind": "label-unused", "detail": "the sheet names 009/pre", "sessions": []}
    shown = seen(report(session("b"), code=3 if spoils else 0) | {"problems": [problem | {"spoils": spoils}]})
    assert ("What is wrong" in shown, "Remarks" in shown) == (spoils, not spoils)


def test_a_session_that_lacks_instances_is_told_what_to_do() -> None:
    one = session(verdict="missing", unproven=2)
    shown = seen(report(one, code=3))
    assert "What is wrong, and what to do" in shown
    assert "Run upload again: it sends what is missing." in shown
    problem = {"kind": "stale-row", "detail": "left over; delete it", "sessions": [one["label"]]}
    assert "Run upload again: it sends what is missing." not in seen(report(one, code=3) | {"problems": [problem]})


def test_nothing_to_send_is_said() -> None:
    assert "Nothing was to be sent" in seen(report(code=4, planned=0))


def test_junit_fails_when_only_the_run_does(tmp_path: Path) -> None:
    problem = {"kind": "label-unused", "detail": "the sheet names 009/pre", "sessions": []}
    for code, failures in ((0, "0"), (3, "1"), (4, "1")):
        write_junit(str(tmp_path / "j.xml"), report(session("b"), code=code) | {"problems": [problem]})
        root = ET.parse(tmp_path / "j.xml").getroot()
        assert root.get("failures") == failures
        found = [str(one.text) for one in root.iter("failure")]
        assert found == ["the sheet names 009/pre"] * int(failures)


@pytest.mark.parametrize(("code", "failures", "level"), [(0, 0, "notice"), (3, 1, "error")])
def test_what_was_not_to_be_checked_fails_only_with_the_run(
    tmp_path: Path, code: int, failures: int, level: str
) -> None:
    """With --no-verify a run ends with 0. What CI shows says the same; but no session passes unseen."""
    made = report(session("a", "unverified", 10), session("b"), code=code)
    write_junit(str(tmp_path / "j.xml"), made)
    root = ET.parse(tmp_path / "j.xml").getroot()
    assert root.get("failures") == str(failures)
    found = [(one.tag, one.get("message")) for one in root.iterfind(".//testcase/*")]
    assert found == [("failure" if failures else "skipped", "unverified: 10 instances are not proven")]
    assert [line.split(" ")[0] for line in workflow_commands(made)] == [f"::{level}"]
    assert ("10 of 20 instances were seen on the server" in page(made, {})) == (code == 0)


def test_annotations_are_one_line_each() -> None:
    problem = {"kind": "two-studies", "detail": "two\n::error::studies 100%\r", "sessions": ["a,b:c"]}
    lines = list(workflow_commands(report(session("a,b:c", "conflict", 2, problems=[problem]), session("d"), code=3)))
    assert lines == ["::error title=a%2Cb%3Ac conflict::two%0A::error::studies 100%25%0D"]


def test_the_steps_summary_begins_with_what_needs_attention(tmp_path: Path) -> None:
    path = tmp_path / "summary.md"
    path.write_text("before\n")
    write_summary(str(path), report(session("fine"), session("b|<b>*", "missing", 2), code=3))
    text = path.read_text()
    assert text.startswith("before\n### xnat-ingest upload P: exit 3\n")
    rows = [line for line in text.splitlines() if line.startswith("|")][2:]
    assert rows[0] == "| b&#124;&#60;b&#62;&#42; | 007 | missing | 10 | 2 |"
    assert rows[1].startswith("| fine |")
