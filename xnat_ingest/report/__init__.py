"""Events and results made visible: text for people, JSON lines for machines, one report file."""

from xnat_ingest.report.document import check_writable, write
from xnat_ingest.report.faces import Face, make_face

__all__ = ["Face", "check_writable", "make_face", "write"]
