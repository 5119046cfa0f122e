"""Command documents as others publish them pass the check, and it is never laxer than the service itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.service.validate import too_long, validate
from tests.unit.test_command_check import BROKEN, GONE, OURS, OUTPUT, PARENT, edited, secret
from xnat_ingest.commands.container.lint.check import check

Document = dict[str, Any]
VALUE, FILES, PROPERTY = (
    "provides-value-for-command-input",
    "provides-files-for-command-mount",
    "derived-from-xnat-object-property",
)
IN = {"name": "in", "path": "/input"}
OUT = {"name": "out", "path": "/output", "writable": "true"}


def command(line: str, **members: object) -> Document:
    fixed = {"name": "tool", "image": "example/tool:1.0", "command-line": line}
    return {**fixed, **{name.replace("_", "-"): value for name, value in members.items()}}


def wrapper(context: str, externals: list[Document], derived: list[Document], *handlers: Document) -> Document:
    inputs = {"external-inputs": externals, "derived-inputs": derived}
    return {"name": "wrapper", "contexts": [context], **inputs, "output-handlers": list(handlers)}


def session(**members: object) -> list[Document]:
    return [{"name": "session", "type": "Session", "required": True, **members}]


ON_SESSION = wrapper("xnat:imageSessionData", session(), [])

ACCEPTED: dict[str, Document] = {
    "converter on a scan, handler on the scan": command(
        "convert.sh #scan-id# #session-id#",
        mounts=[IN, OUT],
        inputs=[{"name": "scan-id", "required": True}, {"name": "session-id", "required": "true"}],
        outputs=[{"name": "nifti", "mount": "out", "required": True, "path": None, "glob": None}],
        xnat=[
            wrapper(
                "xnat:imageScanData",
                [{"name": "scan", "type": "Scan", "matcher": "'DICOM' in @.resources[*].label"}],
                [
                    {"name": "dicom", "type": "Resource", PARENT: "scan", "matcher": "@.label == 'DICOM'", FILES: "in"},
                    {"name": "id", "type": "string", PARENT: "scan", PROPERTY: "id", VALUE: "scan-id"},
                    {"name": "parent", "type": "Session", PARENT: "scan"},
                    {"name": "parent-id", "type": "string", PARENT: "parent", PROPERTY: "id", VALUE: "session-id"},
                ],
                {"name": "files", "accepts-command-output": "nifti", "as-a-child-of": "scan", "label": "NIFTI"},
            )
        ],
    ),
    "reconstruction with keys of its own, a constant external input and a matcher that uses it": command(
        "echo recon #SUBJECT_ID# #OTHER# >> /output/out.txt; ls /input",
        override_entrypoint=True,
        mounts=[{**IN, "writable": "false"}, OUT],
        inputs=[
            {"name": "subject-id", "replacement-key": "#SUBJECT_ID#", "command-line-flag": "-s"},
            {"name": "other", "default-value": "-all", "replacement-key": "#OTHER#"},
        ],
        outputs=[
            {"name": "data", "mount": "out", "path": "#SUBJECT_ID#", "required": False},
            {"name": "text", "mount": "out", "path": "out.txt"},
        ],
        xnat=[
            wrapper(
                "xnat:mrSessionData",
                [*session(), {"name": "t1-types", "type": "string", "default-value": '"T1", "MPRAGE"'}],
                [
                    {"name": "label", "type": "string", PARENT: "session", PROPERTY: "label", VALUE: "subject-id"},
                    {"name": "t1", "type": "Scan", PARENT: "session", "matcher": "@.scan-type in [#t1-types#]"},
                    {"name": "resource", "type": "Resource", PARENT: "t1", FILES: "in"},
                ],
                {"name": "a", "accepts-command-output": "data", "as-a-child-of": "session", "label": "#label#"},
                {"name": "b", "accepts-command-output": "text", "as-a-child-of-wrapper-input": "session", "label": "T"},
            )
        ],
    ),
    "assessor and a resource below it, nulls for what is not given": command(
        "cp /input/a.xml /output; echo #SESSION_ID#",
        label=None,
        version="latest",
        schema_version=1.0,
        override_entrypoint=True,
        environment_variables={},
        ports={},
        mounts=[IN, OUT],
        inputs=[
            {
                "name": "SESSION_ID",
                "type": "string",
                "matcher": None,
                "default-value": None,
                "sensitive": None,
                "replacement-key": None,
                "select-values": [],
                "multiple-delimiter": None,
            }
        ],
        outputs=[{"name": "xml", "mount": "out", "path": "a.xml"}, {"name": "files", "mount": "out", "path": "DATA"}],
        xnat=[
            wrapper(
                "xnat:imageSessionData",
                session(**{FILES: "in", VALUE: None, "via-setup-command": None, "load-children": True}),
                [{"name": "id", "type": "string", PARENT: "session", PROPERTY: "id", VALUE: "SESSION_ID"}],
                {"name": "x", "accepts-command-output": "xml", "as-a-child-of": "session", "type": "Assessor"},
                {
                    "name": "f",
                    "accepts-command-output": "files",
                    "as-a-child-of": "x",
                    "type": "Resource",
                    "label": "D",
                },
            )
        ],
    ),
    "a whole project mounted": command(
        "find /input",
        mounts=[IN],
        xnat=[wrapper("xnat:projectData", [{"name": "project", "type": "Project", FILES: "in"}], [])],
    ),
    "site wrapper, processors and special hardware": command(
        "#COMMAND#",
        generic_resources={"gpu": "1"},
        shm_size=67108864,
        limit_cpu=1.5,
        limit_memory="2048",
        reserve_memory="",
        runtime="nvidia",
        ipc_mode="host",
        network="bridge",
        ulimits={"nofile": "1024:2048", "memlock": "-1", "core": 0},
        inputs=[{"name": "command", "default-value": "echo hello", "replacement-key": "#COMMAND#"}],
        xnat=[wrapper("site", [], [])],
    ),
    "ports, secrets, labels and a hidden input in the environment": command(
        "serve",
        ports={"8080": "#port#", "22": 52222},
        environment_variables={"TOKEN_URL": "https://example.org/#project#", "LEVEL": "#level#", "#level#_NAME": "x"},
        container_labels={"owner": "#project#"},
        working_directory="/srv/#level#",
        secrets=[secret("AWS_SECRET_ACCESS_KEY")],
        command_metadata={"authors": ["A. Uthor"], "year": 2024},
        visibility="private",
        inputs=[
            {"name": "port", "type": "number", "default-value": 8080},
            {"name": "level", "default-value": "info", "sensitive": False},
        ],
        xnat=[wrapper("xnat:projectData", [{"name": "project", "type": "Project", "load-children": False}], [])],
    ),
    "lists of values in every way of joining": command(
        "echo #F# #Q# #C# #S# #D#",
        inputs=[
            {"name": "F", "type": "select-many", "multiple-delimiter": "flag", "command-line-flag": "--f"},
            {"name": "Q", "type": "select-many", "multiple-delimiter": "quoted-space"},
            {"name": "C", "type": "select-many", "multiple-delimiter": "comma"},
            {"name": "S", "type": "select-many", "multiple-delimiter": "space", "default-value": "a"},
            {"name": "D", "type": "select-one", "default-value": 2, "select-values": [1, 2]},
        ],
        xnat=[ON_SESSION],
    ),
    "several scans in one value": command(
        'echo SCANS "#SCANS#"',
        inputs=[{"name": "SCANS", "required": True, "command-line-flag": "--scan", "multiple-delimiter": "flag"}],
        xnat=[
            wrapper(
                "xnat:imageSessionData",
                session(),
                [{"name": "scan", "type": "Scan", PARENT: "session", PROPERTY: "id", VALUE: "SCANS", "multiple": True}],
            )
        ],
    ),
    "a file of a resource, by its path": command(
        "head /input/#file-path#",
        mounts=[IN],
        inputs=[{"name": "file-path", "type": "string"}],
        xnat=[
            wrapper(
                "xnat:imageScanData",
                [{"name": "scan", "type": "Scan"}],
                [
                    {"name": "resource", "type": "Resource", PARENT: "scan", FILES: "in"},
                    {"name": "file", "type": "File", PARENT: "resource", "matcher": "@.name =~ /.*[.]v/"},
                    {"name": "path", "type": "string", PARENT: "file", PROPERTY: "path", VALUE: "file-path"},
                ],
            )
        ],
    ),
    "a setup command, which also gets the values": command(
        "ls /input",
        mounts=[IN],
        inputs=[{"name": "mode", "default-value": "bids"}],
        xnat=[
            wrapper(
                "xnat:abstractResource",
                [{"name": "resource", "type": "Resource", FILES: "in", "via-setup-command": "example/setup:1:bids"}],
                [],
            )
        ],
    ),
    "what a setup command itself looks like": command("bids.py /input #mode#", type="docker-setup", mounts=[], xnat=[]),
    "booleans as switches, a key in brackets, a look-up in the document": command(
        "run.sh [VERBOSE] --name '^$.name^' '#dry#' --say '#word#'",
        inputs=[
            {"name": "verbose", "type": "boolean", "default-value": False, "replacement-key": "[VERBOSE]"}
            | {"true-value": "--verbose", "false-value": ""},
            {"name": "dry", "type": "boolean", "true-value": "-n", "false-value": ""},
            {"name": "word", "required": True},
        ],
        xnat=[ON_SESSION],
    ),
    "an uploaded file, a subject with its sessions, what the service itself exports": {
        **command("run '/out' --label='#label#'", mounts=[OUT], inputs=[{"name": "config", "type": "file"}]),
        "id": 12,
        "hash": "sha256:0123",
        "environment-variables": {"LABEL": "#label#"},
        "command-line": "run /out",
        "xnat": [
            {
                "id": 3,
                **wrapper(
                    "xnat:subjectData",
                    [{"name": "subject", "type": "Subject"}],
                    [
                        {"name": "session", "type": "Session", PARENT: "subject", "user-settable": True},
                        {"name": "label", "type": "string", PARENT: "session", PROPERTY: "label", "required": False},
                    ],
                ),
            }
        ],
    },
    "ours with an output": edited(OUTPUT),
    "no wrappers yet, only what must be there": command(""),
}
for each in ACCEPTED["lists of values in every way of joining"]["inputs"][:3]:
    each.update({"default-value": '["a", "c"]', "select-values": ["a", "b", "c"]})
ACCEPTED["lists of values in every way of joining"]["inputs"][3]["select-values"] = ["a"]


@pytest.mark.parametrize("document", ACCEPTED.values(), ids=ACCEPTED)
def test_what_others_publish_passes(document: Document) -> None:
    assert check(document) == []


def paths(value: object, path: str = "") -> Iterator[str]:
    """Every place in a document, one of each list."""
    for name, each in value.items() if isinstance(value, dict) else ():
        yield f"{path}.{name}".lstrip(".")
        yield from paths(each, f"{path}.{name}".lstrip("."))
    if isinstance(value, list) and value:
        yield f"{path}[0]"
        yield from paths(value[0], f"{path}[0]")


PLACES = {path: document for document in ACCEPTED.values() for path in paths(document)}
ODD: tuple[object, ...] = (GONE, None, " ", "a b", "session", "x" * 256, True, [], {})


@pytest.mark.wide
@pytest.mark.parametrize("odd", ODD, ids=lambda odd: repr(odd)[:12] if odd is not GONE else "gone")
def test_wherever_something_odd_stands_the_service_takes_what_the_check_takes(odd: object) -> None:
    documents = [edited({path: odd}, base) for path, base in PLACES.items()]
    taken = [document for document in documents if check(document) == []]
    assert len(taken) < len(documents)
    for document in taken:
        text = json.dumps(document)
        assert validate(text) == [], text
        assert too_long(text) == [], text


@pytest.mark.parametrize("document", [OURS, *ACCEPTED.values(), *BROKEN])
def test_no_document_here_passes_that_the_service_refuses(document: Document) -> None:
    text = json.dumps(document)
    assert check(document) or not (validate(text) + too_long(text))
