"""What XNAT's container service does with a command document: validate it, ask for values, start a container."""

from tests.service.errors import (
    Ambiguous,
    Collision,
    IllegalInput,
    JsonPath,
    MissingInput,
    NoCommandLine,
    NotMountable,
    Refusal,
    TooLong,
    Unreadable,
    Unresolvable,
)
from tests.service.form import Choice, Field, form, post
from tests.service.model import Project, Resource, Scan, Session, Site, Subject
from tests.service.mounts import Mounted
from tests.service.reading import read
from tests.service.resolve import Launch, resolve
from tests.service.splitter import split
from tests.service.validate import too_long, validate

__all__ = [
    "Ambiguous",
    "Choice",
    "Collision",
    "Field",
    "IllegalInput",
    "JsonPath",
    "Launch",
    "MissingInput",
    "Mounted",
    "NoCommandLine",
    "NotMountable",
    "Project",
    "Refusal",
    "Resource",
    "Scan",
    "Session",
    "Site",
    "Subject",
    "TooLong",
    "Unreadable",
    "Unresolvable",
    "form",
    "post",
    "read",
    "resolve",
    "split",
    "too_long",
    "validate",
]
