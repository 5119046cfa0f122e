"""What the model of the container service makes of a launch request: words, variables, and reasons to refuse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.service import (
    Collision,
    IllegalInput,
    JsonPath,
    MissingInput,
    NoCommandLine,
    Refusal,
    TooLong,
    Unresolvable,
    resolve,
)
from tests.service.samples import command, site, wrapper

PROJECT = {"name": "project", "type": "Project"}
TEXT = [{"name": "a", "default-value": "x"}]


def argv(tmp_path: Path, document: dict[str, Any], values: dict[str, str] | None = None, **options: Any) -> list[str]:
    return resolve(document, "w", site(tmp_path, "UPLOAD"), "P", values or {}, **options).argv


@pytest.mark.parametrize(
    ("given", "values", "words"),
    [
        ({"default-value": "x"}, {}, ["-a=x"]),
        ({"default-value": "x"}, {"a": "y"}, ["-a=y"]),
        ({"default-value": "x"}, {"a": ""}, ["-a="]),
        ({}, {}, ["-a="]),
        ({"required": True}, {"a": ""}, ["-a="]),
        ({}, {"a": "two words"}, ["-a=two words"]),
        ({}, {"a": "it's"}, ["-a=its"]),
        ({}, {"a": "x' --evil 'y"}, ["-a=x", "--evil", "y"]),
        ({}, {"a": "$HOME | cat"}, ["-a=$HOME | cat"]),
        ({"type": "boolean", "true-value": "on", "false-value": "off"}, {"a": "TRUE"}, ["-a=on"]),
        ({"type": "boolean", "true-value": "on", "false-value": "off"}, {"a": "yes"}, ["-a=off"]),
        ({"type": "boolean", "false-value": "off"}, {}, ["-a=off"]),
        ({"type": "boolean"}, {"a": "True"}, ["-a=True"]),
        ({"type": "file"}, {}, ["-a=#a#"]),
        ({"type": "file", "required": True}, {"a": ""}, ["-a=#a#"]),
        ({"command-line-flag": "--f", "command-line-separator": "="}, {"a": "x"}, ["-a=--f=x"]),
        ({"command-line-flag": "--f"}, {"a": " "}, ["-a="]),
        ({"type": "select-one", "select-values": ["x"]}, {"a": "not offered"}, ["-a=not offered"]),
        ({"matcher": "@.id == 'nothing'"}, {"a": "x"}, ["-a=x"]),
    ],
)
def test_a_command_input_in_the_line(
    tmp_path: Path, given: dict[str, Any], values: dict[str, str], words: list[str]
) -> None:
    assert argv(tmp_path, command("'-a=#a#'", inputs=[{"name": "a", **given}]), values) == words


@pytest.mark.parametrize(
    ("delimiter", "flag", "words"),
    [
        (None, {}, ["x", "y"]),
        ("comma", {}, ["x,y"]),
        ("quoted-space", {}, ["x y"]),
        ("flag", {"command-line-flag": "-v"}, ["-v", "x", "-v", "y"]),
        ("flag", {"command-line-flag": "-v", "command-line-separator": ""}, ["-v", "x", "-v", "y"]),
        ("flag", {"command-line-flag": "-v", "command-line-separator": "="}, ["-v=x", "-v=y"]),
    ],
)
def test_several_values_in_the_line(
    tmp_path: Path, delimiter: str | None, flag: dict[str, str], words: list[str]
) -> None:
    given = {"name": "a", "type": "select-many", "select-values": ["x", "y"], "default-value": '["x", "y"]', **flag}
    assert argv(tmp_path, command("#a#", inputs=[given | {"multiple-delimiter": delimiter}])) == words


@pytest.mark.parametrize("value", ["a;b", "a && b", "a||b", "`a`", "config (1).json"])
def test_illegal_strings_stop_a_launch(tmp_path: Path, value: str) -> None:
    with pytest.raises(IllegalInput):
        argv(tmp_path, command("#a#", inputs=TEXT), {"a": value})


@pytest.mark.parametrize("value", ["a)", "a|b", "a&b", "a\nb", "<>", '"'])
def test_other_odd_strings_do_not(tmp_path: Path, value: str) -> None:
    assert argv(tmp_path, command("x#a#", inputs=TEXT), {"a": value})


def test_replacement_is_unordered_and_escapes_nothing(tmp_path: Path) -> None:
    """A value that holds another input's key is replaced in its turn, or is not: that is the hash map's affair."""
    document = command("#a# #b#", inputs=[{"name": "a"}, {"name": "b"}])
    there = site(tmp_path)
    values = {"a": "#b#", "b": "x"}
    assert resolve(document, "w", there, "P", values).argv == ["x", "x"]
    assert resolve(document, "w", there, "P", values, order=reversed).argv == ["#b#", "x"]


def test_the_line_knows_command_inputs_only(tmp_path: Path) -> None:
    """A wrapper's key stays in the line, and is replaced everywhere else; another key may be chosen for an input."""
    document = command(
        "#project# [A]",
        inputs=[{"name": "a", "replacement-key": "[A]", "default-value": "x"}],
        environment_variables={"V_[A]": "#project#"},
    )
    launch = resolve(document, "w", site(tmp_path), "P", {})
    assert launch.argv == ["#project#", "x"]
    assert launch.environment["V_x"] == "/archive/projects/P"


def test_an_override_runs_a_shell(tmp_path: Path) -> None:
    document = command("run '#a#'", inputs=TEXT, override_entrypoint=True)
    assert argv(tmp_path, document) == ["/bin/sh", "-c", "run 'x'"]


@pytest.mark.parametrize("where", ["command_line", "working_directory"])
def test_carets_are_jsonpath(tmp_path: Path, where: str) -> None:
    with pytest.raises(JsonPath):
        argv(tmp_path, command(**{where: "^a^"}, inputs=TEXT))


def test_without_inputs_carets_are_carets(tmp_path: Path) -> None:
    assert argv(tmp_path, command("^a^")) == ["^a^"]


def test_what_else_ends_a_launch(tmp_path: Path) -> None:
    there = site(tmp_path)
    cases: list[tuple[type[Refusal], dict[str, Any]]] = [
        (MissingInput, {"inputs": [{"name": "a", "required": True}]}),
        (NoCommandLine, {"command-line": None}),
        (Collision, {"inputs": [{"name": "project"}]}),
        (Collision, {"environment-variables": {"XNAT_WORKFLOW_ID": ""}}),
        (TooLong, {"label": "x" * 256}),
        (TooLong, {"environment-variables": {"A": "#b#" * 80}, "inputs": [{"name": "b", "default-value": "long"}]}),
        (JsonPath, {"inputs": [{"name": "a", "default-value": "^a^"}]}),
        (Unresolvable, {"xnat": []}),
        (Unresolvable, {"secrets": [{"source": {"type": "system-property", "identifier": "absent"}}]}),
    ]
    for refusal, members in cases:
        with pytest.raises(refusal):
            resolve(command() | members, "w", there, "P", {})


def test_a_wrapper_input_feeds_the_command(tmp_path: Path) -> None:
    """It goes before the request; under one name it lends its default; without a value it leaves the request alone."""
    feeding = wrapper(PROJECT | {"provides-value-for-command-input": "a"})
    assert argv(tmp_path / "1", command("#a#", inputs=TEXT, xnat=[feeding]), {"a": "y"}) == ["/archive/projects/P"]
    text = {"name": "t", "type": "string", "required": False, "provides-value-for-command-input": "a"}
    document = command("#a#", inputs=TEXT, xnat=[wrapper(PROJECT, text)])
    assert argv(tmp_path / "2", document, {"a": "y"}) == ["y"]
    assert argv(tmp_path / "3", document, {"a": "y", "t": "z"}) == ["z"]
    namesake = wrapper(PROJECT, text | {"name": "a"})
    assert argv(tmp_path / "4", command("-#a#", inputs=TEXT, xnat=[namesake])) == ["-"]


@pytest.mark.parametrize(
    ("type_", "root", "held"),
    [
        ("Project", "P", "P"),
        ("Session", "/archive/experiments/X_E00001", "X_E00001"),
        ("Resource", "/archive/experiments/X_E00001/resources/NOTES", "X_E00001"),
        ("Scan", "/archive/experiments/X_E00001/scans/4", "X_E00001"),
    ],
)
def test_the_workflow_stays_open_on_the_object(tmp_path: Path, type_: str, root: str, held: str) -> None:
    document = command(xnat=[wrapper({"name": "o", "type": type_})], environment_variables={"A": "1"})
    launch = resolve(document, "w", site(tmp_path), root, {}, environment={"XNAT_HOST": "http://x"})
    assert launch.workflow_on == held
    assert launch.environment == {"A": "1", "XNAT_HOST": "http://x", "XNAT_WORKFLOW_ID": "1", "XNAT_EVENT_ID": "2"}


def test_a_site_wrapper_has_no_workflow(tmp_path: Path) -> None:
    launch = resolve(command(xnat=[wrapper()]), "w", site(tmp_path), "", {})
    assert launch.workflow_on is None
    assert launch.environment["XNAT_WORKFLOW_ID"] == launch.environment["XNAT_EVENT_ID"] == ""


def test_secrets(tmp_path: Path) -> None:
    """Their values reach the environment; a value that names one stops the launch."""
    place = {"type": "environment-variable", "identifier": "KEY"}
    document = command(
        inputs=TEXT, secrets=[{"source": {"type": "system-property", "identifier": "k"}, "destination": place}]
    )
    there = replace(site(tmp_path), properties={"k": "hush"})
    assert resolve(document, "w", there, "P", {}).environment["KEY"] == "hush"
    with pytest.raises(Unresolvable):
        resolve(document, "w", there, "P", {"a": "$KEY"})
