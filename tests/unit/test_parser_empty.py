"""Empty words of the command line."""

from __future__ import annotations

import pytest

from xnat_ingest.cli.parser import parse
from xnat_ingest.core.errors import UsageError


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
        ("prearchive", "delete", "", "--yes"),
        ("resource", "delete", "", "--label", "QC"),
    ],
)
def test_an_empty_word_is_refused(words: tuple[str, ...]) -> None:
    """It comes from a variable that is not set. Without it, more would be sent or deleted than was named."""
    with pytest.raises(UsageError, match="is empty"):
        parse(words)


def test_elsewhere_an_empty_value_is_not_given() -> None:
    given, _ = parse(("upload", "", "--plan", "p.json", "--report", "", "--ca-bundle", ""))
    assert (given["report"], given["ca_bundle"]) == ("", "")


def test_a_form_of_a_launch_has_empty_fields() -> None:
    given, _ = parse(("command", "run", "--subject-label", ""))
    assert given["command"] == "command"
