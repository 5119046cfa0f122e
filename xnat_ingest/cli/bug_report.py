"""The block that an unexpected error prints, to paste into a bug report: without values, paths or secrets."""

from __future__ import annotations

import platform
from collections.abc import Sequence

from xnat_ingest.core import trace
from xnat_ingest.core.about import __version__

LIBRARIES = ("pydicom", "pynetdicom", "urllib3", "jsonschema")


def bug_report(error: Exception, words: Sequence[str]) -> str:
    """words: the command line without the program's name."""
    return "\n".join(
        (
            "xnat-ingest stopped at an unexpected error. This is a bug in xnat-ingest, not in your data.",
            "Please report it on the project's issue page, with the lines between the rules. They contain no values",
            "from headers, no paths of yours and no passwords. Never attach patient data.",
            "-" * 72,
            f"xnat-ingest {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}",
            ", ".join(f"{name} {_version(name)}" for name in LIBRARIES),
            f"command: xnat-ingest {' '.join(_without_values(words))}",
            trace(error),
            "-" * 72,
        )
    )


def _without_values(words: Sequence[str]) -> list[str]:
    """The command and the flags only. Other words may be a path, a label or a password."""
    shown = [word.partition("=")[0] if word.startswith("--") else word[:2] for word in words[1:] if word[:1] == "-"]
    return [word for word in words[:1] if word.isidentifier()] + shown


def _version(name: str) -> str:
    from importlib import metadata  # late: it takes longer to load than most of this program

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "unknown"
