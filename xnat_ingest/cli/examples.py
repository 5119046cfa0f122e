"""The examples at the end of each command's --help. A test parses all of them with the real parser."""

from __future__ import annotations

import argparse

# The command's words -> lines as people type them.
EXAMPLES: dict[str, tuple[str, ...]] = {
    "plan": (
        "xnat-ingest plan /data/study -P MYPROJECT",
        "xnat-ingest plan /data/study -P MYPROJECT --labels-template labels.csv",
    ),
    "upload": (
        "xnat-ingest upload /data/study -P MYPROJECT --report report.json --html report.html",
        "xnat-ingest upload /data/study/007/pre -P MYPROJECT -S 007 -E 007_pre --exclude Localizers,AAHEAD",
    ),
    "verify": ("xnat-ingest verify /data/study -P MYPROJECT",),
    "nifti": (
        "xnat-ingest nifti /data/bids -P MYPROJECT --dry-run",
        "xnat-ingest nifti /data/bids -P MYPROJECT --report report.json",
    ),
    "identity": ("xnat-ingest identity /data/study", "xnat-ingest identity new-key study.key"),
    "ping": ("xnat-ingest ping -P MYPROJECT",),
    "presets": ("xnat-ingest presets", "xnat-ingest presets localizers > Exclusions.json"),
    "command": ("xnat-ingest command list", "xnat-ingest command register --enable-site"),
    "command show": ("xnat-ingest command show --image registry.example.org/me/xnat-ingest:0.1.0 --labels",),
    "command check": ("xnat-ingest command check command.json",),
    "command register": (
        "xnat-ingest command register --image registry.example.org/me/xnat-ingest:0.1.0 --enable-project MYPROJECT",
    ),
    "command list": ("xnat-ingest command list --in-project MYPROJECT",),
    "command disable": ("xnat-ingest command disable 7 --in-project MYPROJECT",),
    "command remove": ("xnat-ingest command remove 7 --yes",),
    "command run": ("xnat-ingest command run --parent-uri /archive/projects/MYPROJECT --layout auto",),
    "prearchive": ("xnat-ingest prearchive list -P MYPROJECT",),
    "prearchive list": ("xnat-ingest prearchive list -P MYPROJECT --status CONFLICT",),
    "prearchive archive": ("xnat-ingest prearchive archive -P MYPROJECT 007_pre",),
    "prearchive delete": ("xnat-ingest prearchive delete -P MYPROJECT 20240131_101112000 007_pre --yes",),
    "prearchive rebuild": ("xnat-ingest prearchive rebuild -P MYPROJECT --all --status ERROR,CONFLICT",),
    "prearchive move": ("xnat-ingest prearchive move 20240131_101112000 007_pre --to-project OTHER",),
    "prearchive wait": ("xnat-ingest prearchive wait -P MYPROJECT --all --limit 3600",),
    "resource": ("xnat-ingest resource list -P MYPROJECT -S 007 -E 007_pre",),
    "resource put": ("xnat-ingest resource put results -P MYPROJECT -S 007 -E 007_pre --label QC",),
    "resource list": ("xnat-ingest resource list -P MYPROJECT -S 007 -E 007_pre --label QC",),
    "resource delete": ("xnat-ingest resource delete -P MYPROJECT -S 007 -E 007_pre --label QC old/ notes.txt --yes",),
    "report": ("xnat-ingest report show report.json --html report.html",),
    "report show": ("xnat-ingest report show report.json --html report.html --junit junit.xml",),
    "report merge": ("xnat-ingest report merge report-1.json report-2.json --report report.json",),
    "report schema": ("xnat-ingest report schema events",),
    "dicomUpload": ("xnat-ingest dicomUpload URL USER PASS PROJECT /data/study --config Exclusions.json --workdir .",),
}
_HEAD = "examples:\n"


def epilog(program: str) -> str | None:
    """The examples of a command. program: its parser's name, from `xnat-ingest` on."""
    lines = EXAMPLES.get(program.partition(" ")[2], ())
    return _HEAD + "\n".join(f"  {line}" for line in lines) if lines else None


class HelpFormatter(argparse.HelpFormatter):
    """Leaves the examples unchanged, so that they can be copied, and wraps all other text."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith(_HEAD) else super()._fill_text(text, width, indent)
