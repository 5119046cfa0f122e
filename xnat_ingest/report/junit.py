"""The report as JUnit XML, which CI systems show: a test case for each session, and one for the files set aside.

Where only the run as a whole has failed, there is one for the run. Nothing has failed where the exit code is 0. There,
sessions that were not to be checked (--no-verify) are skipped ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree as ET

from xnat_ingest.core import EXIT_MEANING, Exit, IngestError, is_note
from xnat_ingest.core.atomic_file import replacing
from xnat_ingest.report.html import needs_attention

# How many instances of a session are named. The JSON report has them all.
SHOWN = 20
# Characters that XML 1.0 cannot represent.
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_junit(path: str, report: Mapping[str, Any], *, mode: int = 0o600) -> None:
    """Writes the file, completely or not at all. report: as in the JSON file. Raises IngestError."""
    try:
        with replacing(path, mode) as stream:
            stream.write('<?xml version="1.0" encoding="UTF-8"?>\n')
            stream.write(ET.tostring(_suite(report), encoding="unicode"))
            stream.write("\n")
    except OSError as error:
        raise IngestError(f"the JUnit file could not be written to {path}: {error.strerror}") from error


def _suite(report: Mapping[str, Any]) -> ET.Element:
    fails = report["exit_code"] != Exit.OK
    cases = [_session(one, report["command"], fails=fails) for one in report["sessions"]]
    aside = [one for one in report["set_aside"] if not is_note(one["reason"])]
    cases.append(_case(report["project"], "files set aside", 0.0))
    if aside and fails:
        text = "\n".join(f"{one['path']}: {one['reason']} {one['detail']}".rstrip() for one in aside[:SHOWN])
        _fail(cases[-1], f"{len(aside)} files have a problem", text)
    if fails and all(case.find("failure") is None for case in cases):
        cases.append(_case(report["project"], "the run", 0.0))
        problems = [one["detail"] for one in report["problems"]]
        _fail(cases[-1], EXIT_MEANING[Exit(report["exit_code"])], "\n".join(problems[:SHOWN]))
    failures = sum(case.find("failure") is not None for case in cases)
    numbers = {"tests": str(len(cases)), "failures": str(failures), "time": str(report["totals"].get("seconds", 0))}
    suite = ET.Element("testsuite", {"name": f"xnat-ingest {report['command']}", **numbers})
    suite.extend(cases)
    suites = ET.Element("testsuites", numbers)
    suites.append(suite)
    return suites


def _session(session: Mapping[str, Any], command: str, *, fails: bool) -> ET.Element:
    case = _case(f"{session['project']}.{session['subject']}", session["label"], session["seconds"])
    needs = needs_attention(session, command)
    message = f"{session['verdict']}: {len(session['unproven'])} instances are not proven"
    if needs and fails:
        problems = [one["detail"] for one in session["problems"]]
        instances = [f"{one['path']}: {one['state']}, {one['why']}" for one in session["unproven"][:SHOWN]]
        _fail(case, message, "\n".join(problems + instances))
    elif needs:
        ET.SubElement(case, "skipped", {"message": _xml(message)})
    elif session["verdict"] == "skipped":
        ET.SubElement(case, "skipped")
    return case


def _case(classname: str, name: str, seconds: float) -> ET.Element:
    return ET.Element("testcase", {"classname": _xml(classname), "name": _xml(name), "time": str(seconds)})


def _fail(case: ET.Element, message: str, text: str) -> None:
    ET.SubElement(case, "failure", {"message": _xml(message)}).text = _xml(text)


def _xml(text: str) -> str:
    return _ILLEGAL.sub("?", text)
