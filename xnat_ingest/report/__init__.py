"""Shows events and results: text for people, JSON lines for machines, report files."""

from xnat_ingest.report.document import document, write
from xnat_ingest.report.lines import result_lines
from xnat_ingest.report.reporters import Reporter, make_brief_reporter, make_reporter

__all__ = ["Reporter", "document", "make_brief_reporter", "make_reporter", "result_lines", "write"]
