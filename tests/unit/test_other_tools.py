"""Flags and commands of other tools, typed here: each is a usage error that names ours; and flags misspelt."""

from __future__ import annotations

import argparse
import re

import pytest

from xnat_ingest.cli import COMMANDS, main, make_parser, other_tools

# A call of each command to which a flag is added.
CALLS = {
    "plan": ["plan", "/data"],
    "upload": ["upload", "/data"],
    "verify": ["verify", "/data"],
    "nifti": ["nifti", "/data"],
    "ping": ["ping"],
    "dicomUpload": ["dicomUpload", "URL", "USER", "PASS", "PROJECT", "/data"],
    "prearchive": ["prearchive", "archive", "A"],
    "prearchive archive": ["prearchive", "archive", "A"],
    "prearchive list": ["prearchive", "list"],
    "prearchive delete": ["prearchive", "delete", "A"],
    "resource": ["resource", "put", "a.txt", "--label", "A"],
    "resource list": ["resource", "list"],
    "resource delete": ["resource", "delete", "--label", "A"],
}


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The sentence of a usage error."""
    capsys.readouterr()
    assert main(words) == 2
    said = capsys.readouterr()
    assert not said.out
    return said.err.removeprefix("xnat-ingest: ").removesuffix("\n")


@pytest.mark.parametrize("row", other_tools.FLAGS, ids=lambda row: row.names[0])
def test_a_flag_of_another_tool(capsys: pytest.CaptureFixture[str], row: other_tools.Flag) -> None:
    for command in row.commands or ("upload",):
        for name in row.names:
            said = refused(capsys, *CALLS[command], *name.split("="))
            assert said.startswith(f"{name.replace('=', ' ')} is ")
            assert f"here it is {row.here}" in said or f"{row.here} (of " in said or said.endswith(f"out: {row.why}")
            assert "=" not in name or said == refused(capsys, *CALLS[command], name)


@pytest.mark.parametrize("row", other_tools.COMMANDS, ids=lambda row: row.name)
def test_a_command_of_another_tool(capsys: pytest.CaptureFixture[str], row: other_tools.Command) -> None:
    said = refused(capsys, *row.name.split(), "P", "--all")
    assert said.startswith(f"{row.name} is another tool's command; ")
    assert f"here it is {row.here}" in said or said.endswith(f"none here: {row.why}")
    assert row.here.split(" ")[0] in {"", *COMMANDS}


def test_the_forms_of_the_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    for words, sentence in {
        "upload x --overwrite": "--overwrite is another tool's flag; here it is --existing overwrite",
        "upload x --mode=zip": "--mode zip is another tool's flag; here it is --archive-format zip",
        "plan --mode zip x": "--mode zip is another tool's flag; here it is --archive-format zip",
        "upload +sd x": "+sd is another tool's flag; leave it out: ROOT is always read with all its folders",
        "resource put x --session E": "--session is another tool's flag; here it is -E/--experiment",
        "prearchive list --host h": "--host is another tool's flag; here it is --server",
        "ping --host h": "--host is a flag of other tools; here it is --server (of xnatpy, bxl); "
        "or --dicom-host (of xnatctl)",
        "session list": "session is another tool's command; there is none here: "
        "this program only brings data into XNAT",
        "upload --exlude a": "unrecognized arguments: --exlude (did you mean --exclude?) "
        "(see xnat-ingest upload --help)",
        "nifti x --overwrite --bogus": "unrecognized arguments: --bogus (see xnat-ingest nifti --help)",
        "prearchive list --statsu=A": "unrecognized arguments: --statsu (did you mean --status?) "
        "(see xnat-ingest prearchive list --help)",
        "upload x y": "unrecognized arguments: word 3 (not shown, it may be a password; a path with blanks needs "
        "quotes) (see xnat-ingest upload --help)",
        "upload y -P D y": "unrecognized arguments: word 5 (not shown, it may be a password; a path with blanks needs "
        "quotes) (see xnat-ingest upload --help)",
        "upload x --dry-run=y": "argument -n/--dry-run: it takes no value (see xnat-ingest upload --help)",
        "prearchive archive A --limit y": "argument --limit: invalid seconds value "
        "(see xnat-ingest prearchive archive --help)",
    }.items():
        assert refused(capsys, *words.split()) == sentence


@pytest.mark.parametrize("call", [*CALLS, ""])
@pytest.mark.parametrize(
    "words",
    [
        "--pass S3cret'%",
        "--pass=S3cret'%",
        "--passwd S3cret'% S3cret'%",
        "-zS3cret'%",
        "--zoo7=S3cret'%",
        "-z S3cret'%",
        "--insecure=S3cret'%",
        "--XNAT_PASS=S3cret'%",
        "XNAT_PASS=S3cret'% S3cret'% S3cret'% S3cret'% S3cret'% S3cret'% --zoo S3cret'%",
    ],
)
def test_a_password_in_the_wrong_place_is_not_shown(capsys: pytest.CaptureFixture[str], call: str, words: str) -> None:
    said = refused(capsys, *CALLS.get(call, []), *words.split())
    assert "S3cret" not in said, said
    for name in re.findall(r"--[A-Za-z_]+", words) if call else ():
        assert name in said


def test_a_word_that_argparse_made_is_no_bug(capsys: pytest.CaptureFixture[str]) -> None:
    """It is no word of the command line, so it has no place there."""
    assert "unrecognized arguments: the value of a flag that takes none (not shown" in str(
        parsers()["plan"].unknown(["plan", "x", "-q1"], ["-1"])  # type: ignore[attr-defined]
    )
    said = refused(capsys, "plan", "x", "-P", "D", "-q1S3cret")
    assert "takes no value" in said or "a flag that takes none" in said
    assert "S3cret" not in said


def test_the_command_that_was_meant(capsys: pytest.CaptureFixture[str]) -> None:
    for words, sentence in {
        "uplaod /data": "argument COMMAND: invalid choice, did you mean upload? (choose from ",
        "S3cret /data": "argument COMMAND: invalid choice (choose from ",
        "S3\"cr'et /data": "argument COMMAND: invalid choice (choose from ",
        "prearchive arhcive": "argument ACTION: invalid choice, did you mean archive? (choose from ",
        "resource S3cret": "argument ACTION: invalid choice (choose from ",
    }.items():
        assert refused(capsys, *words.split()).startswith(sentence)


def parsers() -> dict[str, argparse.ArgumentParser]:
    """The parser of each command, by its words."""
    found: dict[str, argparse.ArgumentParser] = {}
    waiting = [("", make_parser())]
    while waiting:
        name, parser = waiting.pop()
        found[name] = parser
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                waiting += [(f"{name} {word}".strip(), one) for word, one in action.choices.items()]
    return found


def test_no_flag_of_ours_is_taken_for_another_tools() -> None:
    for name, parser in parsers().items():
        for row in other_tools.FLAGS:
            if name and name in row.commands:
                assert not set(row.names) & set(parser._option_string_actions), name


def test_what_is_named_instead_exists() -> None:
    own = {flag for parser in parsers().values() for flag in parser._option_string_actions}
    for row in other_tools.FLAGS:
        assert set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", row.here)) <= own, row
