"""The dialog before a launch: which fields a person sees, with which values, and what it sends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.service import (
    Ambiguous,
    Choice,
    Collision,
    Field,
    IllegalInput,
    MissingInput,
    form,
    post,
    resolve,
)
from tests.service.samples import CHOSEN, command, derived, mounting, site


def fields(tmp_path: Path, document: dict[str, Any], *labels: str) -> dict[str, Field]:
    return {field.name: field for field in form(document, "w", site(tmp_path, *labels), "P")}


@pytest.mark.parametrize(
    ("given", "kind", "default", "ticked"),
    [
        ({"default-value": "x"}, "text", "x", None),
        ({"sensitive": True}, "password", "", None),
        ({"type": "file", "default-value": "x"}, "file", "", None),
        ({"type": "boolean", "default-value": "true"}, "boolean", "true", True),
        ({"type": "boolean", "default-value": "true", "true-value": "--on"}, "boolean", "false", False),
        ({"type": "boolean", "default-value": "true", "true-value": "Yes"}, "boolean", "true", True),
        ({"type": "boolean", "false-value": "1"}, "boolean", "true", True),
        ({"type": "select-one", "select-values": ["x", "y"], "default-value": "y"}, "select-one", "y", None),
        ({"type": "select-one", "select-values": ["x", "y"]}, "select-one", "", None),
        ({"type": "select-many", "select-values": ["x", "y"], "default-value": '["y"]'}, "select-many", '["y"]', None),
    ],
)
def test_command_inputs_in_the_form(
    tmp_path: Path, given: dict[str, Any], kind: str, default: str, ticked: bool | None
) -> None:
    field = fields(tmp_path, command(inputs=[{"name": "a", **given}]))["a"]
    assert (field.label, field.kind, field.default, field.ticked) == ("a", kind, default, ticked)


def test_derived_inputs_in_the_form(tmp_path: Path) -> None:
    """One candidate is fixed, several are a drop-down with none chosen; what the wrapper feeds is not there."""
    document = mounting(CHOSEN | {"label": "Folder", "description": "d"})
    document["xnat"][0]["derived-inputs"] += [derived("n", "string", "r", derived_from_xnat_object_property="label")]
    one = fields(tmp_path / "1", document, "A")
    assert [(field.name, field.kind, field.shown) for field in one.values()] == [
        ("project", "static", True),
        ("r", "static", True),
        ("n", "static", True),
        ("a", "static", False),
    ]
    assert (one["r"].default, one["n"].default) == ("/archive/projects/P/resources/A", "A")
    several = fields(tmp_path / "2", document, "A", "B")
    assert several["r"] == Field(
        "r",
        "Folder",
        "d",
        "select-one",
        tuple(Choice(f"/archive/projects/P/resources/{label}", label) for label in "AB"),
        required=True,
    )
    assert several["n"].kind == "static"
    assert several["n"].default == ""


def test_forms_that_do_not_open(tmp_path: Path) -> None:
    """A required object that is not there; a label with an illegal string, whichever would have been chosen."""
    with pytest.raises(MissingInput):
        fields(tmp_path / "1", mounting())
    with pytest.raises(IllegalInput):
        fields(tmp_path / "2", mounting(derived("r", "Resource")), "A", "B (1)")
    with pytest.raises(Collision):
        fields(tmp_path / "3", command(inputs=[{"name": "project"}]))


def test_optional_and_fixed_inputs_in_the_form(tmp_path: Path) -> None:
    """Nothing found is an empty text field; user-settable false shows the value, but as it is."""
    optional = mounting(CHOSEN | {"required": False})
    assert fields(tmp_path / "1", optional)["r"].kind == "text"
    fixed = fields(tmp_path / "2", mounting(CHOSEN | {"user-settable": False}), "A", "B")["r"]
    assert (fixed.kind, fixed.default, fixed.shown) == ("static", "", True)


def test_what_the_form_posts(tmp_path: Path) -> None:
    """Empty texts are sent, and go before defaults; the form itself refuses what a launch would."""
    document = mounting() | {"command-line": "'#a#' '#t#' #on#"}
    boolean = {"name": "on", "type": "boolean", "true-value": "-y", "false-value": "-n"}
    document["inputs"] += [{"name": "t", "default-value": "x", "required": True}, boolean]
    there = site(tmp_path, "A", "B")
    seen = form(document, "w", there, "P")
    chosen = post(seen, r="/archive/projects/P/resources/B", on="true")
    assert chosen["project"] == "/archive/projects/P"
    assert resolve(document, "w", there, "P", chosen).argv == ["/archive/projects/P/resources/B", "x", "-y"]
    with pytest.raises(MissingInput):
        post(seen, t="")
    with pytest.raises(IllegalInput):
        post(seen, t="(")
    with pytest.raises(Ambiguous):
        resolve(document, "w", there, "P", post(seen))
    with pytest.raises(KeyError):
        post(seen, a="hidden")
