"""Objects of the site in a launch: what is derived from them, who is chosen, and what a mount shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.service import (
    Ambiguous,
    MissingInput,
    NotMountable,
    Unresolvable,
    resolve,
)
from tests.service.samples import CHOSEN, command, derived, mounting, site, wrapper

PROJECT = {"name": "project", "type": "Project"}


def derive(tmp_path: Path, root_type: str, root: str, *chain: dict[str, Any]) -> str:
    """The value of the last of a chain of derived inputs, fed to the line."""
    inputs = [
        {"name": "project", "type": root_type},
        *chain[:-1],
        chain[-1] | {"provides-value-for-command-input": "a"},
    ]
    document = command("'#a#'", inputs=[{"name": "a"}], xnat=[wrapper(*inputs)])
    return " ".join(resolve(document, "w", site(tmp_path, "UPLOAD"), root, {}).argv)


@pytest.mark.parametrize(
    ("type_", "root", "property_", "text"),
    [
        ("Project", "P", "id", "P"),
        ("Project", "/projects/P", "uri", "/archive/projects/P"),
        ("Project", "P", "title", "Pilot"),
        ("Project", "P", "label", "Pilot"),
        ("Subject", "X_S00001", "label", "001"),
        ("Subject", "/archive/projects/P/subjects/001", "uri", "/archive/projects/P/subjects/001"),
        ("Subject", "X_S00001", "project-id", "P"),
        ("Subject", "X_S00001", "group", "g"),
        ("Session", "/archive/projects/P/experiments/001_MR", "uri", "/archive/experiments/X_E00001"),
        ("Session", "X_E00001", "subject-id", "X_S00001"),
        ("Session", "X_E00001", "xsiType", "xnat:mrSessionData"),
        ("Scan", "/archive/experiments/X_E00001/scans/4", "scan-type", "T1w"),
        ("Scan", "/archive/experiments/X_E00001/scans/4", "session-id", "X_E00001"),
        ("Resource", "/archive/projects/P/resources/UPLOAD", "parent-uri", "/archive/projects/P"),
        ("Resource", "/archive/projects/P/resources/4", "uri", "/archive/projects/P/resources/4"),
        ("Resource", "/archive/projects/P/subjects/001/resources/DOCS", "parent-uri", "/archive/subjects/X_S00001"),
        ("Resource", "4", "label", "UPLOAD"),
    ],
)
def test_properties(tmp_path: Path, type_: str, root: str, property_: str, text: str) -> None:
    assert derive(tmp_path, type_, root, derived("d", "string", derived_from_xnat_object_property=property_)) == text


@pytest.mark.parametrize(
    ("root", "chain", "uri"),
    [
        ("Project P", ["Resource"], "/archive/projects/P/resources/UPLOAD"),
        ("Project P", ["Subject", "Session"], "/archive/projects/P/subjects/X_S00001/experiments/X_E00001"),
        ("Subject X_S00001", ["Project", "Resource"], "/archive/projects/P/resources/UPLOAD"),
        ("Session X_E00001", ["Subject", "Resource"], "/archive/subjects/X_S00001/resources/DOCS"),
        ("Session X_E00001", ["Scan", "Resource", "Scan"], "/archive/experiments/X_E00001/scans/4"),
        ("Session X_E00001", ["Resource", "File"], "/archive/experiments/X_E00001/resources/NOTES/files/a.dcm"),
    ],
)
def test_routes(tmp_path: Path, root: str, chain: list[str], uri: str) -> None:
    type_, value = root.split()
    names = ["project", *(f"d{step}" for step in range(len(chain)))]
    inputs = [derived(names[step + 1], type_, names[step]) for step, type_ in enumerate(chain)]
    assert derive(tmp_path, type_, value, *inputs) == uri


@pytest.mark.parametrize(
    ("root", "given"),
    [
        ("Project P", derived("d", "Session")),
        ("Project P", derived("d", "string")),
        ("Project P", derived("d", "string", derived_from_xnat_object_property="colour")),
        ("Project P", derived("d", "string", derived_from_xnat_object_property="id", matcher="@.id == 'P'")),
        ("Project P", derived("d", "boolean", derived_from_xnat_object_property="id")),
        ("Project P", derived("d", "Resource", matcher="@.label != 'UPLOAD'")),
        ("Project P", derived("d", "string", derived_from_xnat_object_property="id", parser="[a-z]+")),
        ("Project nowhere", derived("d", "Resource")),
        ("Subject P", derived("d", "Resource")),
        ("Resource /archive/projects/P/resources/UPLOAD", derived("d", "Project")),
    ],
)
def test_what_never_gets_a_value(tmp_path: Path, root: str, given: dict[str, Any]) -> None:
    type_, value = root.split()
    with pytest.raises(MissingInput):
        derive(tmp_path, type_, value, given)


def test_an_unknown_uri_is_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(Unresolvable):
        derive(tmp_path, "Project", "/archive/projects/nowhere", derived("d", "Resource"))


def test_an_optional_input_that_finds_nothing(tmp_path: Path) -> None:
    """Gone from the line, but its key stays in everything else; and a required command input below it is forgotten."""
    given = derived("d", "Resource", required=False, matcher="@.label == 'NONE'", provides_value_for_command_input="a")
    document = command(
        "-#a# -#b#",
        inputs=[{"name": "a", "required": True}, {"name": "b"}],
        xnat=[wrapper(PROJECT, given)],
        environment_variables={"A": "#a#", "B": "#b#"},
    )
    launch = resolve(document, "w", site(tmp_path, "UPLOAD"), "P", {"a": "unheard"})
    assert launch.argv == ["-", "-"]
    assert (launch.environment["A"], launch.environment["B"]) == ("#a#", "")


MATCHER = "@.label != 'REPORT' && @.label != 'CONFIG' || @.label == 'CONFIG'"


@pytest.mark.parametrize("asked", ["B", "/archive/projects/P/resources/B"])
def test_the_request_chooses_among_candidates(tmp_path: Path, asked: str) -> None:
    launch = resolve(mounting(), "w", site(tmp_path, "A", "B"), "P", {"r": asked})
    assert launch.argv == ["/archive/projects/P/resources/B"]
    assert launch.mount("in").host == tmp_path / "archive/P/resources/B"


def test_candidates_and_matchers(tmp_path: Path) -> None:
    """A choice must pass the matcher; a text in single quotes inside a choice finds nothing; no choice is no launch."""
    there = site(tmp_path, "A", "CONFIG", "REPORT")
    document = mounting(CHOSEN | {"matcher": "@.label != 'REPORT' && @.label != 'CONFIG'"})
    assert resolve(document, "w", there, "P", {}).argv == ["/archive/projects/P/resources/A"]
    for asked in ("REPORT", "A's", "A\\"):
        with pytest.raises(MissingInput):
            resolve(document, "w", there, "P", {"r": asked})
    with pytest.raises(Ambiguous):
        resolve(mounting(CHOSEN | {"matcher": MATCHER}), "w", there, "P", {})
    # A matcher's second half is free of the choice; and a choice may be written so that it is free of itself.
    assert resolve(mounting(CHOSEN | {"matcher": MATCHER}), "w", there, "P", {"r": "X"}).argv[0].endswith("/CONFIG")
    assert resolve(document, "w", there, "P", {"r": "X' || @.label == 'A"}).argv[0].endswith("/A")
    with pytest.raises(NotImplementedError):
        resolve(mounting(CHOSEN | {"matcher": "@.label =~ /A/"}), "w", there, "P", {})


def test_mounts(tmp_path: Path) -> None:
    """Read-only is the archive, writable a copy, unprovided a new directory that can be written whatever is said."""
    there = site(tmp_path, "A")
    launch = resolve(mounting(), "w", there, "P", {})
    out, data = launch.mounts
    assert (data.container, data.host, data.writable) == ("/input", tmp_path / "archive/P/resources/A", False)
    assert out.writable
    assert out.host.parent == there.build
    assert list(out.host.iterdir()) == []
    copied = resolve(mounting(writable=True), "w", there, "P", {}).mount("in")
    assert copied.writable
    assert copied.host.parent == there.build
    assert {path.name for path in copied.host.iterdir()} == {"a.dcm", "A_catalog.xml"}


@pytest.mark.parametrize(
    ("root", "given", "reason"),
    [
        (
            "Subject X_S00001",
            {"name": "s", "type": "Subject", "provides-files-for-command-mount": "in"},
            "is a Subject",
        ),
        (
            "Project P",
            derived("r", "Directory", provides_files_for_command_mount="in", required=False),
            "is a Directory",
        ),
        ("Project P", CHOSEN | {"required": False, "matcher": "@.label == 'NONE'"}, "no object"),
        ("Session X_E00001", CHOSEN | {"type": "Scan"}, "no directory"),
    ],
    ids=["subject", "directory", "optional", "no-directory"],
)
def test_what_cannot_be_mounted(tmp_path: Path, root: str, given: dict[str, Any], reason: str) -> None:
    type_, value = root.split()
    with pytest.raises(NotMountable, match=reason):
        resolve(mounting(given, root=type_), "w", site(tmp_path, "A"), value, {"s": value})


def test_uploads_go_to_the_first_writable_mount(tmp_path: Path) -> None:
    """The copy's path stands in the line, the URI in all else; a failed copy leaves the URI."""
    (tmp_path / "cache/17").mkdir(parents=True)
    (tmp_path / "cache/17/c.json").write_text("{}")
    there = replace(site(tmp_path, "A"), cache=tmp_path / "cache")
    document = mounting() | {"command-line": "'#f#'", "environment-variables": {"F": "#f#"}}
    document["inputs"] += [{"name": "f", "type": "File"}]
    uri = "/user/cache/resources/17/files/c.json"
    launch = resolve(document, "w", there, "P", {"f": uri})
    assert launch.argv == ["/output/17/c.json"]
    assert (launch.mount("out").host / "17/c.json").read_text() == "{}"
    assert launch.environment["F"] == uri
    assert resolve(document, "w", there, "P", {"f": uri.replace("c.", "d.")}).argv == [uri.replace("c.", "d.")]


def test_several_values_of_a_multiple_input(tmp_path: Path) -> None:
    given = derived(
        "r", "Resource", multiple=True, derived_from_xnat_object_property="label", provides_value_for_command_input="a"
    )
    document = command(
        "#a#",
        inputs=[{"name": "a", "multiple-delimiter": "comma"}],
        xnat=[wrapper(PROJECT, given)],
        environment_variables={"A": "#a#"},
    )
    there = site(tmp_path, "A", "B", "C")
    launch = resolve(document, "w", there, "P", {})
    assert (launch.argv, launch.environment["A"]) == (["A,B,C"], "[A, B, C]")
    assert resolve(document, "w", there, "P", {"r": '["A", "C"]'}).argv == ["A,C"]


def test_children_need_not_be_loaded(tmp_path: Path) -> None:
    """On a project, and nowhere else, load-children false hides what is below."""
    document = mounting()
    document["xnat"][0]["external-inputs"][0]["load-children"] = False
    with pytest.raises(MissingInput):
        resolve(document, "w", site(tmp_path, "A"), "P", {})
