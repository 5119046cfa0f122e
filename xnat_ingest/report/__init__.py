"""Events and results made visible: text for people, JSON lines for machines, one report file."""

from xnat_ingest.report.document import document, write
from xnat_ingest.report.faces import Face, make_brief_face, make_face
from xnat_ingest.report.lines import result_lines

__all__ = ["Face", "document", "make_brief_face", "make_face", "result_lines", "write"]
