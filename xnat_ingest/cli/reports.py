"""`report show`: a saved report as a page."""

from __future__ import annotations

import argparse
from typing import Any

from xnat_ingest.core.errors import Exit, UsageError


def add_words(command: argparse.ArgumentParser) -> None:
    actions = command.add_subparsers(dest="action", metavar="ACTION", required=True)
    text = "write a saved JSON report as a page for people, or as JUnit XML"
    show = actions.add_parser("show", help=text, description=text, allow_abbrev=False)
    show.add_argument("file", metavar="REPORT", help="the file that --report wrote")
    show.add_argument("--html", metavar="FILE", default="", help="write the page here")
    show.add_argument("--junit", metavar="FILE", default="", help="write the JUnit XML here")


def reports(given: dict[str, Any]) -> int:
    from xnat_ingest.core.atomic_file import check_writable
    from xnat_ingest.report.html import read_report, write_html
    from xnat_ingest.report.junit import write_junit

    if not given["html"] and not given["junit"]:
        raise UsageError("say where to write: --html FILE or --junit FILE")
    report = read_report(given["file"])
    for name, write in (("html", write_html), ("junit", write_junit)):
        if path := given[name]:
            check_writable(path, f"--{name}")
            write(path, report)
            print(f"{name}: {path}")
    return int(Exit.OK)
