"""`report show|merge|schema`: shows a saved report as a page, merges reports of shards, prints the schemas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xnat_ingest.core import Exit, UsageError
from xnat_ingest.core.output_file import check_output_file
from xnat_ingest.report.document import write_document
from xnat_ingest.report.html import write_html
from xnat_ingest.report.junit import write_junit
from xnat_ingest.report.lines import totals_line
from xnat_ingest.report.saved import check_sums, merge, read_report


def reports(given: dict[str, Any]) -> int:
    if given["action"] == "schema":
        return _schema(given["of"])
    return _merge(given["files"], given["report"]) if given["action"] == "merge" else _show(given)


def _schema(name: str) -> int:
    from importlib import resources

    print(resources.files("xnat_ingest.report").joinpath(f"{name}.schema.json").read_text("utf-8"), end="")
    return int(Exit.OK)


def _show(given: dict[str, Any]) -> int:
    if not given["html"] and not given["junit"]:
        raise UsageError("no output: give --html FILE or --junit FILE")
    report = read_report(given["file"])
    # The report of a run that found a bug in its own counts can be looked at, too.
    if report["exit_code"] != Exit.BUG:
        check_sums(given["file"], report)
    for name, write in (("html", write_html), ("junit", write_junit)):
        if path := given[name]:
            check_output_file(path, name, [("the report", given["file"])])
            write(path, report)
            print(f"{name}: {path}")
    return int(Exit.OK)


def _merge(files: Sequence[str], target: str) -> int:
    merged = merge([(path, read_report(path)) for path in files])
    check_output_file(target, "report", [("one of the reports", path) for path in files])
    write_document(target, merged)
    for problem in merged["problems"]:
        print(f"{problem['kind']}: {problem['detail']}")
    print(f"report: {target}")
    print(totals_line(merged["totals"], merged["exit_code"]))
    code: int = merged["exit_code"]
    return code
