"""The check of command documents: ours is sound, what is broken in it is named, and what others publish passes."""

from __future__ import annotations

import json
import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from xnat_ingest.commands.container.lint.check import COMMAND_RULES, WRAPPER_RULES, check, command_schema
from xnat_ingest.commands.container.lint.parts import CommandPart, CommandRule, WrapperRule
from xnat_ingest.core.json_documents import best_error

Document = dict[str, Any]
Edits = dict[str, Any]
OURS: Document = json.loads((Path(__file__).parent.parent.parent / "command.json").read_text("utf-8"))
GONE = object()
LONG = "x" * 256


def steps(document: Document, path: str) -> list[str | int]:
    """The way to `inputs[layout].type`: a list's entry is called by its name, or by the name's last part."""
    at: Any = document
    way: list[str | int] = []
    for word in re.findall(r"[^.\[\]]+|\[[^\]]+\]", path):
        step: str | int = word.strip("[]")
        if word.startswith("[") and not word[1:-1].isdigit() and step != "+":
            step = next(i for i, each in enumerate(at) if f"-{each['name']}".endswith(f"-{step}"))
        elif word.startswith("["):
            step = len(at) if step == "+" else int(step)
        way.append(step)
        is_there = step in at if isinstance(at, dict) else isinstance(at, list) and int(step) < len(at)
        at = at[step] if is_there else {}
    return way


def where(document: Document, path: str) -> str:
    return "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in steps(document, path)).lstrip(".")


def edited(edits: Edits, base: Document = OURS) -> Document:
    document = deepcopy(base)
    for path, value in edits.items():
        *way, last = steps(document, path)
        at: Any = document
        for step in way:
            at = at[step]
        if value is GONE:
            del at[last]
        elif isinstance(at, list) and last == len(at):
            at.append(deepcopy(value))
        else:
            at[last] = deepcopy(value)
    return document


def secret(name: str) -> Document:
    source = {"type": "system-property", "identifier": "ingest.key"}
    return {"source": source, "destination": {"type": "environment-variable", "identifier": name}}


def handler(target: str, **members: object) -> Document:
    fixed = {"name": "report", "accepts-command-output": "report", "as-a-child-of": target, "label": "REPORT"}
    return {**fixed, **members}


def derived(kind: str, parent: str, **members: object) -> Document:
    made = {"name": "extra", "type": kind, "derived-from-wrapper-input": parent}
    return {**made, **{name.replace("_", "-"): value for name, value in members.items()}}


P, S = "xnat[project].", "xnat[session]."
ROOT, SOURCE = P + "external-inputs[project]", P + "derived-inputs[resource]"
MORE, SMORE = P + "derived-inputs[+]", S + "derived-inputs[+]"
VALUE, FILES = "provides-value-for-command-input", "provides-files-for-command-mount"
PARENT, PROPERTY = "derived-from-wrapper-input", "derived-from-xnat-object-property"
LINE: str = OURS["command-line"]
TARGETS = {wrapper["name"].rpartition("-")[2]: wrapper["external-inputs"][0]["name"] for wrapper in OURS["xnat"]}
OUTPUT: Edits = {
    "mounts[+]": {"name": "out", "path": "/output", "writable": True},
    "outputs": [{"name": "report", "mount": "out", "path": "report"}],
    **{f"xnat[{name}].output-handlers": [handler(target)] for name, target in TARGETS.items()},
}
HANDLER = P + "output-handlers[report]"

# Edits to our document, the field that a sentence must begin with, and a text that must be in it.
FAULTS: list[tuple[Edits, str, str]] = [
    ({"naem": "x"}, "naem", "did you mean name?"),
    ({"name": GONE}, "name", "missing"),
    ({"name": "  "}, "name", "not blank"),
    ({"image": "xnat-ingest"}, "image", "NAME:TAG"),
    ({"image": "localhost:5000/xnat-ingest"}, "image", "NAME:TAG"),
    ({"image": "xnat ingest:1"}, "image", "NAME:TAG"),
    ({"command-line": GONE}, "command-line", "missing"),
    ({"command-line": None}, "command-line", "null"),
    ({"type": "dokcer"}, "type", "did you mean docker?"),
    ({"type": "docker-setup"}, "mounts", "setup"),
    ({"visibility": "Public"}, "visibility", "did you mean public?"),
    ({"label": LONG}, "label", "255"),
    ({"reserve-memory": "512M"}, "reserve-memory", "without a unit"),
    ({"limit-memory": -1}, "limit-memory", "whole number"),
    ({"limit-cpu": "half"}, "limit-cpu", "processors"),
    ({"override-entrypoint": "yes"}, "override-entrypoint", "true or false"),
    ({"mounts": {}}, "mounts", "list"),
    ({"mounts[in].writeable": True}, "mounts[in].writeable", "did you mean writable?"),
    ({"mounts[in].path": ""}, "mounts[in].path", "not blank"),
    ({"environment-variables": {"A": None}}, "environment-variables.A", "null"),
    ({"environment-variables": {"A": LONG}}, "environment-variables.A", "255"),
    ({"environment-variables": {"": "x"}}, "environment-variables", "not blank"),
    ({"ulimits": {"nofile": "1:2:3"}}, "ulimits.nofile", "SOFT:HARD"),
    ({"secrets": [{"source": {}}]}, "secrets[0].destination", "missing"),
    ({"inputs[layout].name": "lay out"}, "inputs[3].name", "letters"),
    ({"inputs[layout].name": "layout\n"}, "inputs[3].name", "letters"),
    ({"inputs[exclude].type": "text"}, "inputs[exclude].type", "string"),
    ({"inputs[exclude].defaultvalue": ""}, "inputs[exclude].defaultvalue", "did you mean default-value?"),
    ({"inputs[exclude].label": 5}, "inputs[exclude].label", "text"),
    ({"inputs[layout].select-values": ["auto", None]}, "inputs[layout].select-values[1]", "null"),
    ({"inputs[layout].multiple-delimiter": "tab"}, "inputs[layout].multiple-delimiter", "comma"),
    ({P + "contexts": []}, P + "contexts", "never offered"),
    ({P + "contexts": GONE}, P + "contexts", "missing"),
    ({ROOT + ".type": "project"}, ROOT + ".type", "did you mean Project?"),
    ({SOURCE + ".provides-value-to-command-input": "x"}, SOURCE + ".provides-value-to-command-input", VALUE),
    ({SOURCE + "." + PARENT: GONE}, SOURCE + "." + PARENT, "missing"),
    ({**OUTPUT, HANDLER + ".type": "resource"}, HANDLER + ".type", "did you mean Resource?"),
    ({**OUTPUT, HANDLER + ".description": LONG}, HANDLER + ".description", "255"),
    # mounts, inputs, outputs, environment
    ({"inputs[+]": {"name": "layout"}}, "inputs[12].name", "inputs[3]"),
    ({"mounts[+]": {"name": "in", "path": "/2"}}, "mounts[1].name", "mounts[0]"),
    ({"xnat[subject].name": "xnat-ingest-project"}, "xnat[1].name", "xnat[0]"),
    ({"inputs[layout].replacement-key": "#exclude#"}, "inputs[exclude].replacement-key", "share"),
    ({"mounts[in].path": "input"}, "mounts[in].path", "begins with /"),
    ({"mounts[+]": {"name": "two", "path": "/input/"}}, "mounts[1].path", "mounts[0]"),
    ({"inputs[layout].select-values": []}, "inputs[layout].select-values", "no values"),
    ({"inputs[exclude].select-values": ["a"]}, "inputs[exclude].select-values", "select-one"),
    ({"inputs[layout].default-value": "sesion"}, "inputs[layout].default-value", "did you mean session?"),
    ({"inputs[layout].type": "select-many", "inputs[layout].default-value": None}, "inputs[3].default-value", "fail"),
    (
        {"inputs[layout].type": "select-many", "inputs[layout].default-value": '["auto", "al"]'},
        "inputs[layout].default-value",
        "'al' is not among",
    ),
    ({"inputs[dry-run].default-value": "yes"}, "inputs[dry-run].default-value", "counts as false"),
    (
        {"inputs[dry-run].default-value": True, "inputs[dry-run].true-value": "--dry-run"},
        "inputs[dry-run].true-value",
        "unticked",
    ),
    ({"inputs[dry-run].false-value": "Y"}, "inputs[dry-run].false-value", "ticked"),
    ({"inputs[exclude].default-value": "a;b"}, "inputs[exclude].default-value", "';'"),
    ({"inputs[dry-run].true-value": "`x`"}, "inputs[dry-run].true-value", "'`'"),
    ({"inputs[layout].select-values[+]": "all (slow)"}, "inputs[layout].select-values[4]", "'('"),
    ({**OUTPUT, "outputs[report].mount": "outt"}, "outputs[report].mount", "did you mean out?"),
    ({**OUTPUT, "outputs[report].path": "/output/report"}, "outputs[report].path", "leaves the mount"),
    ({"environment-variables": {"XNAT_HOST": "x"}}, "environment-variables.XNAT_HOST", "sets it itself"),
    ({"secrets": [secret("XNAT_PASS")]}, "secrets[0].destination.identifier", "sets XNAT_PASS itself"),
    (
        {"environment-variables": {"KEY": "x"}, "secrets": [secret("KEY")]},
        "secrets[0].destination.identifier",
        "environment-variables too",
    ),
    ({"secrets": [secret("KEY"), secret("KEY")]}, "secrets[1].destination.identifier", "secrets[0] too"),
    # texts that are filled in
    ({"command-line": LINE + " --like='^a^'"}, "command-line", "JSONPath"),
    ({"inputs[exclude].default-value": "^a.*^b"}, "inputs[exclude].default-value", "JSONPath"),
    ({"command-line": LINE.replace("#layout#", "#layuot#")}, "command-line", "did you mean #layout#?"),
    ({"command-line": LINE + " '#source-resource#'"}, "command-line", "xnat[2].derived-inputs[0]"),
    ({"inputs[layout]": GONE}, "command-line", "#layout# is the key of no command input"),
    ({"environment-variables": {"A": "#projekt#"}}, "environment-variables.A", "did you mean #project#?"),
    ({SOURCE + ".matcher": "@.label == '#session#'"}, SOURCE + ".matcher", "#session#"),
    ({**OUTPUT, HANDLER + ".tags": ["#subjekt#"]}, HANDLER + ".tags[0]", "#subjekt#"),
    ({"inputs[+]": {"name": "colour"}}, "inputs[12]", "#colour# is used nowhere"),
    ({"command-line": LINE.replace("--exclude=", "--exclude ")}, "command-line", "write --exclude='#exclude#'"),
    # wrapper inputs
    ({MORE: derived("Resource", "project", name="project")}, P + "derived-inputs[1].name", "external-inputs[0]"),
    ({ROOT + ".name": "layout", SOURCE + "." + PARENT: "layout"}, P + "external-inputs[0].name", "rename"),
    ({ROOT + "." + VALUE: "parent_uri"}, ROOT + "." + VALUE, "did you mean parent-uri?"),
    ({ROOT + "." + VALUE: "layout"}, ROOT + "." + VALUE, "inputs[3] is a select input"),
    ({SOURCE + "." + FILES: "input"}, SOURCE + "." + FILES, "there is no mount 'input'"),
    ({SOURCE + "." + FILES: None, SOURCE + ".via-setup-command": "a:1"}, SOURCE + ".via-setup-command", FILES),
    ({"xnat[subject].external-inputs[subject]." + FILES: "in"}, "xnat[1].external-inputs[0]." + FILES, "a Subject"),
    ({ROOT + ".type": "File", ROOT + "." + FILES: "in"}, ROOT + "." + FILES, "a File cannot be mounted"),
    ({SOURCE + ".required": False}, SOURCE + ".required", "crashes"),
    ({SOURCE + ".multiple": True}, SOURCE + "." + FILES, "cannot share a mount"),
    ({MORE: derived("Resource", "project", multiple=True)}, P + "derived-inputs[1]." + VALUE, "name a command input"),
    ({SOURCE + "." + PARENT: "source-resource"}, SOURCE + "." + PARENT, "derived from itself"),
    ({SOURCE + "." + PARENT: "projekt"}, SOURCE + "." + PARENT, "did you mean project?"),
    ({SOURCE + "." + PARENT: "extra", MORE: derived("Subject", "project")}, SOURCE + "." + PARENT, "move"),
    ({MORE: derived("Session", "project")}, P + "derived-inputs[1]." + PARENT, "cannot be derived from a Project"),
    ({SMORE: derived("number", "session")}, S + "derived-inputs[1].type", "derive a string"),
    ({SMORE: derived("string", "session")}, S + "derived-inputs[1]." + PROPERTY, "name a property of the Session"),
    (
        {MORE: derived("string", "project", derived_from_xnat_object_property="lable")},
        P + "derived-inputs[1]." + PROPERTY,
        "did you mean label?",
    ),
    ({ROOT + ".load-children": False}, SOURCE + "." + PARENT, "leave out load-children"),
    ({P + "external-inputs[+]": {"name": "note"}}, P + "external-inputs[1]", "no field"),
    ({ROOT + ".default-value": "(none)"}, ROOT + ".default-value", "'('"),
    ({P + "contexts": ["xnat:imageScanData"]}, ROOT + ".name", "`scan`"),
    # output handlers
    ({**OUTPUT, P + "output-handlers": []}, P + "output-handlers", "nothing takes the output 'report'"),
    ({**OUTPUT, P + "output-handlers[+]": handler("project")}, P + "output-handlers[1].name", "output-handlers[0]"),
    ({**OUTPUT, HANDLER + ".accepts-command-output": "rep"}, HANDLER + ".accepts-command-output", "mean report?"),
    ({**OUTPUT, HANDLER + ".as-a-child-of": "report"}, HANDLER + ".as-a-child-of", "no earlier handler"),
    ({**OUTPUT, HANDLER + ".as-a-child-of": GONE}, HANDLER + ".as-a-child-of", "missing"),
    ({**OUTPUT, HANDLER + ".label": None}, HANDLER + ".label", "a resource needs one"),
    (
        {**OUTPUT, MORE: derived("Subject", "project", multiple=True), HANDLER + ".as-a-child-of": "extra"},
        HANDLER + ".as-a-child-of",
        "multiple",
    ),
    (
        {
            **OUTPUT,
            MORE: derived("Subject", "project", derived_from_xnat_object_property="id"),
            HANDLER + ".as-a-child-of": "extra",
        },
        HANDLER + ".as-a-child-of",
        "its id",
    ),
]
BROKEN = [edited(edits) for edits, _, _ in FAULTS]


def test_ours_is_sound() -> None:
    assert check(OURS) == []


@pytest.mark.parametrize(("edits", "path", "words"), FAULTS, ids=[f"{n}:{row[1]}" for n, row in enumerate(FAULTS)])
def test_a_broken_document_is_refused_by_a_sentence_that_names_the_field(edits: Edits, path: str, words: str) -> None:
    document = edited(edits)
    found = check(document)
    assert any(fault.startswith(f"{where(document, path)}: ") and words in fault for fault in found), found


@pytest.mark.parametrize("document", [[OURS], None, "x", 5], ids=["list", "null", "text", "number"])
def test_what_is_no_object_is_refused(document: object) -> None:
    (fault,) = check(document)
    assert fault.startswith("the document: ")


def test_a_sentence_is_one_line() -> None:
    (fault,) = check({**OURS, "a\nb\x1b[2J": 1})
    assert fault.isprintable()


@pytest.fixture(scope="module")
def shapely() -> list[CommandPart]:
    """The broken documents of which the schema has nothing to say: only these reach the rules."""
    return [CommandPart("", document) for document in BROKEN if best_error(document, command_schema()) is None]


@pytest.mark.parametrize("rule", COMMAND_RULES, ids=lambda rule: str(rule.__name__))
def test_every_rule_of_commands_is_broken_above(rule: CommandRule, shapely: list[CommandPart]) -> None:
    assert any(list(rule(part)) for part in shapely)


@pytest.mark.parametrize("rule", WRAPPER_RULES, ids=lambda rule: f"{rule.__module__.rpartition('.')[2]}{rule.__name__}")
def test_every_rule_of_wrappers_is_broken_above(rule: WrapperRule, shapely: list[CommandPart]) -> None:
    assert any(list(rule(part, wrapper)) for part in shapely for wrapper in part.parts("xnat"))
