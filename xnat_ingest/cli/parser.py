"""The command line: commands, their flags, and hints for flags of other tools."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from xnat_ingest.cli.arguments import ADD_ARGUMENTS
from xnat_ingest.cli.examples import HelpFormatter, epilog
from xnat_ingest.core import EXIT_MEANING, UsageError, nearest
from xnat_ingest.core.about import __version__
from xnat_ingest.settings.layers import empty_option, told_empty
from xnat_ingest.settings.options import add_options, flag

COMMANDS = {
    "plan": "show what would be sent, and every conflict; opens no socket (--online also asks the server)",
    "upload": "plan, send, commit, verify, report",
    "verify": "compare a tree with what the server has; sends nothing",
    "nifti": "NIfTI images and their sidecars, also in BIDS: create, send, verify, report",
    "identity": "show the identifying elements in a tree; no server (new-key FILE makes a key for --deidentify)",
    "ping": "log in; show the server's version, your permissions on the project, its settings that matter",
    "presets": "show the named lists of rules for --exclude and --include; with a NAME, its rules as a config file",
    "command": "XNAT's container-service command: show, check, register, list, disable, remove (run is for XNAT)",
    "prearchive": "sessions in the prearchive: list, archive, delete, rebuild, move, wait",
    "resource": "files that are not DICOM: put, list, delete, for a project, subject, session or scan",
    "report": "saved reports: show one as a page, merge those of shards, print the schema",
    "dicomUpload": "drop-in for the original script: URL USER PASS PROJECT ROOTDIR [--config FILE] [--workdir DIR]",
}
# Commands that change what is on the server. What they are given narrows down what they change.
_NARROWED = ("prearchive", "resource")
_EMPTY = re.compile(r"\s*|--[a-z-]+=\s*")
# What may be shown of a word that looks like a flag: its name, never a value that is attached to it.
_FLAG_NAME = re.compile(r"--[A-Za-z_-]+|-[A-Za-z]")
# Where argparse quotes a word that was typed: it may be a password in the wrong place.
_QUOTED = re.compile(
    r"(invalid choice|invalid \w+ value|ignored explicit argument):? ('.*'|\".*\")(?= \(choose|$)", re.DOTALL
)


class _Misread(UsageError):
    """argparse's message, and the command whose parser gave it."""

    def __init__(self, message: str, parser: _Parser) -> None:
        super().__init__(f"{message} (see {parser.prog} --help)")
        self.message = message
        self.parser = parser


class _Parser(argparse.ArgumentParser):
    """A parser that raises UsageError. The result's `parser` is that of the innermost command.

    Its help ends with examples.
    """

    def __init__(self, **words: Any) -> None:
        super().__init__(**{"formatter_class": HelpFormatter, **words})
        self.epilog = self.epilog or epilog(self.prog)
        self.set_defaults(parser=self)

    def error(self, message: str) -> NoReturn:
        raise _Misread(_without_words(message), self)

    def refusal(self, words: Sequence[str], message: str) -> UsageError:
        """The most helpful error: what another tool's flag or command is called here, or which flag was meant."""
        from xnat_ingest.cli.other_tools import command_sentence, flag_sentence

        if "invalid choice" in message and (said := command_sentence(words)):
            return UsageError(said)
        own = self._option_string_actions
        for word, following in zip(words, [*words, ""][1:], strict=True):
            is_foreign = word[:1] in ("-", "+") and word.partition("=")[0] not in own
            if is_foreign and (said := flag_sentence(word, following, self.prog.split()[1:])):
                return UsageError(said)
        return _Misread(message, self)

    def unknown(self, words: Sequence[str], stray: Sequence[str]) -> UsageError:
        """stray: the words that were not recognised. Only names of flags are shown of them."""
        flags = [found[0] for word in stray if (found := _FLAG_NAME.match(word))]
        known = [name[2:] for name in self._option_string_actions if name.startswith("--")]
        near = next((close for name in flags if name[1] == "-" and (close := nearest(name[2:], known))), None)
        hint = f" (did you mean --{near}?)" if near else ""
        if not flags:
            # Python 3.13 makes a word of its own of the 1 in -q1.
            place = max((number for number, word in enumerate(words, 1) if word == stray[0]), default=0)
            what = f"word {place}" if place else "the value of a flag that takes none"
            hint = f"{what} (not shown, it may be a password; a path with blanks needs quotes)"
        return self.refusal(words, f"unrecognized arguments: {' '.join(flags)}{hint}")


def _without_words(message: str) -> str:
    """A message of argparse's without the words that were typed; names the command that was meant."""

    def shortened(found: re.Match[str]) -> str:
        near = nearest(found[2][1:-1], re.findall(r"[\w-]+", message[found.end() :].replace("choose from", "")))
        return f"{found[1]}{f', did you mean {near}?' if near else ''}"

    return _QUOTED.sub(shortened, message).replace("ignored explicit argument", "it takes no value")


def parse(words: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """(flags and positional words by name, words that were not recognised). Raises UsageError.

    Only `command run` may have words that are empty or not recognised.
    """
    try:
        command = next((word for word in words if not word.startswith("-")), "")
        parsed, stray = make_parser(command).parse_known_args(words)
    except _Misread as error:
        raise error.parser.refusal(words, error.message) from None
    given = vars(parsed)
    parser: _Parser = given.pop("parser")
    if (given["command"], given.get("action")) == ("command", "run"):
        return given, stray
    if (word := _empty_word(given, words)) is not None:
        raise told_empty(word or "a word of the command line")
    if stray:
        raise parser.unknown(words, stray)
    return given, stray


def _empty_word(given: Mapping[str, Any], words: Sequence[str]) -> str | None:
    """What is empty and must not be; elsewhere an empty value means that it is not given. None: nothing is."""
    if given["command"] in _NARROWED:
        return next((word.strip() for word in words if _EMPTY.fullmatch(word)), None)
    name = empty_option(given, flags=True)
    return flag(name) if name else None


def make_parser(only: str | None = None) -> argparse.ArgumentParser:
    """Makes the parser. only: the wanted command, since making all of them takes a while.

    If it is not a command, the parser has all commands, but without their flags.
    """
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
    for name in [only] if only in COMMANDS else COMMANDS:
        command = commands.add_parser(name, help=COMMANDS[name], description=COMMANDS[name], allow_abbrev=False)
        if only in (None, name):
            _add_words(command, name)
    return parser


def _add_words(command: argparse.ArgumentParser, name: str) -> None:
    """The flags and positional words of one command."""
    if name in ADD_ARGUMENTS:
        ADD_ARGUMENTS[name](command)
        return
    if name != "ping":
        command.add_argument(
            "root",
            metavar="ROOT",
            nargs="?" if name == "upload" else None,  # a plan file names its own
            default="",
            help="the folder or archive (zip, tar, tar.gz) with the DICOM tree",
        )
    add_options(command, name)
