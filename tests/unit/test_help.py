"""What --help shows: each command has examples, and each of them is a line that the program takes."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator

import pytest

from xnat_ingest.cli import make_parser
from xnat_ingest.cli.examples import EXAMPLES
from xnat_ingest.cli.parser import parse


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield child
                yield from parsers(child)


@pytest.fixture(scope="module")
def commands() -> dict[str, argparse.ArgumentParser]:
    return {parser.prog.partition(" ")[2]: parser for parser in parsers(make_parser())}


def test_every_command_has_examples(commands: dict[str, argparse.ArgumentParser]) -> None:
    assert EXAMPLES.keys() == commands.keys()


def test_help_shows_them_as_they_are_typed(
    commands: dict[str, argparse.ArgumentParser], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    for name, parser in commands.items():
        tail = parser.format_help().partition("examples:\n")[2]
        assert tail.splitlines() == [f"  {line}" for line in EXAMPLES[name]], name


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_program_takes_them(name: str) -> None:
    for line in EXAMPLES[name]:
        words = shlex.split(line.partition(" > ")[0])
        given, stray = parse(words[1:])
        asked = [given["command"], *([given["action"]] if "action" in given else [])]
        assert asked[: len(name.split())] == name.split()
        assert not stray
