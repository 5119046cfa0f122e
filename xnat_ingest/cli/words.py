"""The words of the command line: commands, their flags, and what other tools call them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NoReturn

from xnat_ingest import __version__
from xnat_ingest.cli import nifti, prearchive, resource, service, tree
from xnat_ingest.errors import EXIT_MEANING, UsageError
from xnat_ingest.options import FOREIGN_FLAGS, add_options

COMMANDS = {
    "plan": "what would be sent, and every conflict; opens no socket (--online asks the server too)",
    "upload": "plan, send, close, verify, report",
    "verify": "compare a tree with what the server holds; sends nothing",
    "nifti": "NIfTI images and their sidecars, also in BIDS: create, send, verify, report",
    "ping": "log in; the server's version, your right on the project, its settings that matter",
    "presets": "the named lists of rules for --exclude and --include; with a NAME, its rules as a config file",
    "command": "XNAT's container-service command: show, check, register (run is what its command line calls)",
    "prearchive": "XNAT's staging area: list, archive, delete, rebuild, move its rows, wait for them",
    "resource": "files beside DICOM: put, list, delete, of a project, subject, session or scan",
    "dicomUpload": "drop-in for the original script: URL USER PASS PROJECT ROOTDIR [--config FILE] [--workdir DIR]",
}


# Commands whose words are not those of a tree.
WORDS: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "command": service.add_words,
    "nifti": nifti.add_words,
    "presets": tree.add_presets_words,
    "prearchive": prearchive.add_words,
    "resource": resource.add_words,
    "dicomUpload": tree.add_drop_in_words,
}


class _Parser(argparse.ArgumentParser):
    """Errors come as UsageError, naming our flag where another tool's was given."""

    def error(self, message: str) -> NoReturn:
        words = message.replace("=", " ").split()
        for foreign, ours in FOREIGN_FLAGS.items():
            if foreign in words:
                raise UsageError(f"{foreign} is another tool's flag; here it is {ours}")
        raise UsageError(f"{message} (see {self.prog} --help)")


def make_parser() -> argparse.ArgumentParser:
    codes = "\n".join(f"  {code:>3}  {text}" for code, text in EXIT_MEANING.items())
    parser = _Parser(
        prog="xnat-ingest",
        description="Bring DICOM into XNAT, and prove for every instance that it is there.",
        epilog=f"Every option is also an environment variable: XNAT_INGEST_ and the long flag, as in "
        f"XNAT_INGEST_PART_SIZE.\nThe server and credentials also come from XNAT_HOST, XNAT_USER, XNAT_PASS.\n\n"
        f"exit codes:\n{codes}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"xnat-ingest {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        if name in WORDS:
            WORDS[name](command)
        else:
            if name != "ping":
                command.add_argument(
                    "root",
                    metavar="ROOT",
                    nargs="?" if name == "upload" else None,  # a plan file names its own
                    default="",
                    help="the folder or archive (zip, tar, tar.gz) that holds the DICOM tree",
                )
            add_options(command, name)
    return parser
