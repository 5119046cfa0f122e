"""What the model of the container service takes as a document, and how it cuts a line into words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.service import Unreadable, read, split, too_long, validate
from tests.service.samples import command, derived, wrapper


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", []),
        ("  \t \n", []),
        ("a\tbee  cee", ["a", "bee", "cee"]),
        ("'hello world'", ["hello world"]),
        ('"\\"hello world\\""', ['"hello world"']),
        ("'a \\\" b'", ['a \\" b']),
        ("\"foo\"'bar'baz", ["foobarbaz"]),
        ("three\\ four", ["three four"]),
        ("a '' \"\" b", ["a", "b"]),
        ("--x='' y", ["--x=", "y"]),
        ('"\\n"', ["n"]),
        ("it's open till the end", ["its open till the end"]),
        ("end\\", ["end"]),
        ("$HOME *.dcm | cat > x", ["$HOME", "*.dcm", "|", "cat", ">", "x"]),
        ("a\xa0b c\x85d\u2003e", ["a\xa0b", "c\x85d", "e"]),
    ],
)
def test_the_line_is_split_as_the_service_splits_it(line: str, words: list[str]) -> None:
    """Its own cases, and those where it differs from a shell."""
    assert split(line) == words


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("{'name': 'it\\'s \"x\"'}", 'it\'s "x"'),
        ('{"name": "x", # it\'s a comment\n "nmae": 1}', "x"),
        ('{"name": "# no comment"}', "# no comment"),
        ('{"name": "x", "name": "y"}', "y"),
        ('{"name": "x"} and more', "x"),
        ('{"name": 1.50}', "1.50"),
        ('{"name": true}', "true"),
    ],
)
def test_the_reader_is_lenient(text: str, name: str) -> None:
    assert read(text).name == name


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "x",}',
        '{"name": NaN}',
        '{"name": "x"} // no'.replace('"x"}', '"x", // no\n}'),
        '{"name": ["x"]}',
        '{"override-entrypoint": "yes"}',
        '{"override-entrypoint": 1.0}',
        '{"reserve-memory": "512M"}',
        '{"mounts": [null]}',
        '{"inputs": [{"name": "a", "select-values": [null]}]}',
        '{"environment-variables": {"A": null}}',
        '{"inputs": [{"label": "x"}]}',
        '{"secrets": [{"destination": {"type": "file"}}]}',
    ],
)
def test_the_reader_refuses(text: str) -> None:
    with pytest.raises(Unreadable) as caught:
        read(text)
    assert caught.value.status == 400


def test_the_reader_coerces() -> None:
    """Numbers and truth in the spellings that the reader takes; and a tag for an image without one."""
    made = read('{"image": "host:5000/x", "reserve-memory": 512.9, "limit-memory": "", "auto-remove": "TRUE"}')
    assert (made.image, made.reserve_memory, made.limit_memory, made.auto_remove) == (
        "host:5000/x:latest",
        512,
        None,
        True,
    )
    assert read('{"image": "x@sha256:0f"}').image == "x@sha256:0f"


GOOD: dict[str, Any] = {
    "mounts": [{"name": "out", "path": "/output", "writable": True}],
    "inputs": [{"name": "a", "type": "select-one", "select-values": ["x"], "default-value": "x"}],
    "outputs": [{"name": "o", "mount": "out"}],
    "ulimits": {"nofile": "1:2", "core": "1:2:"},
    "xnat": [
        wrapper(
            {"name": "project", "type": "Project"},
            derived("r", "Resource"),
            **{"output-handlers": [{"name": "h", "accepts-command-output": "o", "as-a-child-of": "r", "label": "L"}]},
        )
    ],
}


def test_a_good_document_passes() -> None:
    document = command(**GOOD)
    assert validate(document) == []
    assert validate(json.dumps(document)) == []
    assert too_long(document) == []


HANDLER = {"name": "h", "accepts-command-output": "o", "as-a-child-of": "project", "label": "L"}
PROJECT = {"name": "project", "type": "Project"}


@pytest.mark.parametrize(
    ("members", "complaint"),
    [
        ({"name": " "}, "command without a name"),
        ({"image": None}, "command without an image"),
        ({"type": "Docker"}, "unknown type"),
        ({"type": "docker-setup"}, "docker-setup with xnat"),
        ({"visibility": "Public"}, "visibility"),
        ({"ulimits": {"nofile": "1:2:3"}}, "ulimit nofile"),
        ({"ulimits": {"nofile": None}}, "500"),
        ({"secrets": [{"destination": {"type": "environment-variable", "identifier": "XNAT_PASS"}}]}, "reserved"),
        (
            {
                "secrets": [{"destination": {"type": "environment-variable", "identifier": "A"}}],
                "environment-variables": {"A": "1"},
            },
            "one name",
        ),
        ({"secrets": [{"source": {"type": "system-property", "identifier": "a"}}]}, "500"),
        ({"mounts": [{"name": "m"}]}, "mount m"),
        ({"mounts": [{"name": "m", "path": "/m"}] * 2}, "mount name not unique"),
        ({"inputs": [{"name": "a b"}]}, "other characters"),
        ({"inputs": [{"name": "a"}] * 2}, "input name not unique"),
        ({"inputs": [{"name": "a", "type": "select-one"}]}, "select-values"),
        ({"inputs": [{"name": "a", "select-values": ["x"]}]}, "select-values"),
        ({"inputs": [{"name": "a", "type": "select-one", "select-values": ["x"], "default-value": ""}]}, "not among"),
        ({"inputs": [{"name": "a", "type": "select-many", "select-values": ["x"]}]}, "500"),
        (
            {"inputs": [{"name": "a", "type": "select-many", "select-values": ["x"], "default-value": '["x","y"]'}]},
            "not among",
        ),
        ({"inputs": [{"name": "a", "multiple-delimiter": ";"}]}, "multiple-delimiter"),
        ({"outputs": [{"name": "o", "mount": "m"}]}, "unknown mount m"),
        ({"outputs": [{"mount": "m"}]}, "500"),
        (
            {"outputs": [{"name": "o", "mount": "m"}], "mounts": [{"name": "m", "path": "/m"}]},
            "wrapper w: output o has no handler",
        ),
        ({"xnat": [wrapper(PROJECT), wrapper(PROJECT)]}, "wrapper name not unique"),
        ({"xnat": [wrapper(PROJECT, name="")]}, "name blank"),
        ({"xnat": [wrapper(PROJECT, derived("project", "Resource"))]}, "input name not unique"),
        ({"xnat": [wrapper({"name": "p", "type": "project"})]}, "unknown type project"),
        ({"xnat": [wrapper(PROJECT, derived("a", "Resource", "a"))]}, "derived from itself"),
        ({"xnat": [wrapper(PROJECT, derived("a", "string", "b"), derived("b", "Resource"))]}, "stand before"),
        ({"xnat": [wrapper(PROJECT, derived("a", "Resource", via_setup_command="x"))]}, "via-setup-command"),
        ({"xnat": [wrapper(PROJECT, derived("a", "Resource", multiple=True))]}, "provides no value"),
        (
            {"xnat": [wrapper(PROJECT, derived("a", "Scan", multiple=True, provides_files_for_command_mount="m"))]},
            "provides files",
        ),
        (
            {
                "inputs": [{"name": "s", "type": "select-one", "select-values": ["x"]}],
                "xnat": [wrapper({**PROJECT, "provides-value-for-command-input": "s"})],
            },
            "for the select s",
        ),
        ({"xnat": [wrapper(PROJECT, **{"output-handlers": [HANDLER]})]}, "unknown output o"),
        ({"xnat": [wrapper(PROJECT, **{"output-handlers": [{**HANDLER, "label": ""}]})]}, "needs a label"),
        ({"xnat": [wrapper(PROJECT, **{"output-handlers": [{**HANDLER, "type": "File"}]})]}, "unknown type File"),
        ({"xnat": [wrapper(PROJECT, **{"output-handlers": [{**HANDLER, "as-a-child-of": "x"}]})]}, "neither an input"),
        ({"xnat": [wrapper(PROJECT, **{"output-handlers": [HANDLER, HANDLER]})]}, "handler name not unique"),
        ({"xnat": [wrapper(PROJECT, **{"output-handlers": [{"label": "L"}]})]}, "500"),
        (
            {
                "xnat": [
                    wrapper(
                        PROJECT,
                        derived("l", "Resource", derived_from_xnat_object_property="label"),
                        **{"output-handlers": [{**HANDLER, "as-a-child-of": "l"}]},
                    )
                ]
            },
            "not a uri",
        ),
    ],
)
def test_validation_complains(members: dict[str, Any], complaint: str) -> None:
    found = validate(command() | members)
    assert any(complaint in each for each in found), found


def test_one_fault_one_complaint() -> None:
    itself = wrapper(PROJECT, derived("a", "Resource", "a"))
    assert validate(command(xnat=[itself])) == ["wrapper w: derived input a is derived from itself"]


def test_what_validation_does_not_see() -> None:
    """Wrong names in provides members, unknown properties, impossible routes, empty contexts, names used twice."""
    silent = wrapper(
        {"name": "project", "type": "Project", "provides-value-for-command-input": "nowhere"},
        derived("s", "Session", provides_files_for_command_mount="nowhere"),
        derived("t", "string", derived_from_xnat_object_property="colour"),
        contexts=[],
    )
    assert validate(command(inputs=[{"name": "project", "type": "colour"}], xnat=[silent])) == []


def test_columns_hold_255_characters() -> None:
    """The line, descriptions and defaults of inputs may be longer; labels, select values, variables may not."""
    wide = "x" * 256
    assert too_long(command(wide, description=wide, inputs=[{"name": "a", "default-value": wide}])) == []
    members: dict[str, Any] = {
        "label": wide,
        "environment_variables": {"A": wide},
        "inputs": [{"name": "a", "matcher": wide, "select-values": [wide]}],
        "xnat": [wrapper({"name": "p", "matcher": wide}, **{"output-handlers": [{"name": "h", "description": wide}]})],
    }
    assert [each.split(":")[0] for each in too_long(command(**members))] == [
        "label",
        "environment-variables",
        "inputs[0].matcher",
        "inputs[0].select-values",
        "xnat[0].external-inputs[0].matcher",
        "xnat[0].output-handlers[0].description",
    ]
