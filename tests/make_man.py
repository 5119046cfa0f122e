"""Adds the examples of all commands to the man page: python -m tests.make_man FILE"""

from __future__ import annotations

import sys
from pathlib import Path

from xnat_ingest.cli.examples import EXAMPLES


def section() -> str:
    """The section EXAMPLES, as troff. A hyphen is escaped so that it can be copied."""
    lines = [".SH EXAMPLES"]
    for command, examples in EXAMPLES.items():
        lines += [".TP", f".B {command}", ".nf", *examples, ".fi"]
    return "\n".join(lines).replace("-", "\\-") + "\n"


def main(file: str) -> int:
    with Path(file).open("a", encoding="utf-8") as stream:
        stream.write(section())
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
