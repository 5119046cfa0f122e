"""Bring DICOM into XNAT, and prove for every instance that it is there: `plan`, `upload`, `verify`, `put_resource`."""

from __future__ import annotations

from xnat_ingest.core.about import __version__

# Type checkers take this name as true. The real one comes with a module that takes its time to load, and until
# __main__ has begun, Ctrl-C is a traceback.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from xnat_ingest.api import as_report, plan, put_resource, upload, verify
    from xnat_ingest.core.errors import Exit, IngestError, Refused, ServerSaid, Unreachable, UsageError
    from xnat_ingest.core.model import Event, Outcome, Plan, Problem, Result, Session, SetAside, Verdict
    from xnat_ingest.core.stop import Stop

__all__ = [
    "Event",
    "Exit",
    "IngestError",
    "Outcome",
    "Plan",
    "Problem",
    "Refused",
    "Result",
    "ServerSaid",
    "Session",
    "SetAside",
    "Stop",
    "Unreachable",
    "UsageError",
    "Verdict",
    "__version__",
    "as_report",
    "plan",
    "put_resource",
    "upload",
    "verify",
]
_HOMES = {
    "api": ("as_report", "plan", "put_resource", "upload", "verify"),
    "core.errors": ("Exit", "IngestError", "Refused", "ServerSaid", "Unreachable", "UsageError"),
    "core.model": ("Event", "Outcome", "Plan", "Problem", "Result", "Session", "SetAside", "Verdict"),
    "core.stop": ("Stop",),
}


def __getattr__(name: str) -> Any:
    """Loads a name when it is asked for, so that `xnat-ingest --help` answers at once."""
    home = next((module for module, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{home}"), name)
