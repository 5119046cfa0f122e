"""Empty words of the command line."""

from __future__ import annotations

import json

import pytest

from xnat_ingest.cli.parser import parse
from xnat_ingest.core.errors import UsageError
from xnat_ingest.settings.layers import resolve


@pytest.mark.parametrize(
    "words",
    [
        ("upload", "t", "-P", "DEMO", "--deidentify", ""),
        ("upload", "t", "-P", "DEMO", "--deidentify="),
        ("upload", "t", "-P", "DEMO", "--include", ""),
        ("upload", "t", "-P", "DEMO", "--shard", " "),
        ("upload", "t", "--exclude", "SeriesDescription=x", "--exclude", ""),
        ("upload", "t", "--config", ""),
        ("plan", "t", "--labels", ""),
        ("verify", "t", "-S", "007", "-E", ""),
        ("nifti", "t", "-S", "", "-E", "x"),
        ("upload", "t", "--deid-key-file", ""),
        ("upload", "t", "--crosswalk", ""),
        ("upload", "t", "--plan", ""),
        ("upload", "t", "--server", ""),
        ("upload", "t", "--user="),
        ("ping", "-P", "DEMO", "--password-file", ""),
        ("upload", "t", "--dicom-host", ""),
        ("upload", "t", "--dicom-tls-ca", ""),
        ("upload", "t", "--dicom-tls-cert", " "),
        ("upload", "t", "--dicom-tls-key", ""),
        ("upload", "t", "--include", ","),
        ("upload", "t", "--exclude", "T1", "--exclude", " , "),
        ("prearchive", "delete", "", "--yes"),
        ("resource", "delete", "", "--label", "QC"),
    ],
)
def test_an_empty_word_is_refused(words: tuple[str, ...]) -> None:
    """It comes from a variable that is not set. Without it, more would be sent or deleted than was named, or data and
    the password would go elsewhere, or without encryption."""
    with pytest.raises(UsageError, match="is empty"):
        parse(words)


EMPTY_IN_CONFIG = (
    {"deidentify": ""},
    {"labels": " "},
    {"shard": ""},
    {"include": ["T1", ","]},
    {"plan": ""},
)


@pytest.mark.parametrize("config", EMPTY_IN_CONFIG)
def test_an_empty_value_of_a_config_file_is_refused(config: dict[str, object]) -> None:
    (name,) = config
    with pytest.raises(UsageError, match=f"^{name} in c.json is empty"):
        resolve("upload", {"config": "c.json"}, {}, lambda _: json.dumps(config))


def test_an_empty_value_of_a_config_file_that_a_flag_replaces() -> None:
    config = json.dumps({"deidentify": ""})
    assert resolve("upload", {"config": "c.json", "deidentify": "basic"}, {}, lambda _: config).deidentify == "basic"
    environ = {"XNAT_INGEST_DEIDENTIFY": "basic"}
    assert resolve("upload", {"config": "c.json"}, environ, lambda _: config).deidentify == "basic"


@pytest.mark.parametrize("text", [" ", ",", "\t"])
def test_a_variable_of_blanks_is_refused(text: str) -> None:
    """An empty one is not given: engines and XNAT's form cannot leave a variable out."""
    variable = "XNAT_INGEST_DEIDENTIFY"
    with pytest.raises(UsageError, match=f"^{variable} is empty"):
        resolve("upload", {}, {variable: text})
    assert resolve("upload", {}, {variable: ""}).deidentify == ""
    assert resolve("upload", {"deidentify": "basic"}, {variable: text}).deidentify == "basic"
    assert resolve("upload", {}, {"XNAT_INGEST_REPORT": text}).report in ("", ",")


def test_elsewhere_an_empty_value_is_not_given() -> None:
    given, _ = parse(("upload", "", "--plan", "p.json", "--report", "", "--ca-bundle", ""))
    assert (given["report"], given["ca_bundle"]) == ("", "")


def test_a_form_of_a_launch_has_empty_fields() -> None:
    given, _ = parse(("command", "run", "--subject-label", ""))
    assert given["command"] == "command"
