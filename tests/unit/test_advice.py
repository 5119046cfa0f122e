"""Every word that a report can hold has its meaning and its remedy."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from xnat_ingest.core.model import NOTES
from xnat_ingest.report.advice import PROBLEMS, REASONS, advice_on

PACKAGE = Path(__file__).parent.parent.parent / "xnat_ingest"


@cache
def calls() -> tuple[ast.Call, ...]:
    """All calls in the code."""
    files = PACKAGE.rglob("*.py")
    return tuple(
        node for path in files for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)
    )


def first_words(name: str, at: int = 0) -> Iterator[str]:
    """The text that the code gives as one argument of a call, wherever it is written out."""
    for call in calls():
        if name in (getattr(call.func, "id", None), getattr(call.func, "attr", None)) and len(call.args) > at:
            word = call.args[at]
            if isinstance(word, ast.Constant) and isinstance(word.value, str):
                yield word.value


def test_every_kind_of_problem_has_a_row() -> None:
    kinds = {
        *first_words("Problem"),
        *first_words("advised"),
        *first_words("SessionTrouble"),
        *first_words("conflict", 1),
    }
    assert len(kinds) > 20
    assert {kind for kind in kinds if kind not in PROBLEMS} == set()


def test_every_reason_has_a_row() -> None:
    reasons = {reason.partition(":")[0] for reason in first_words("SetAside", 1)} | NOTES
    assert len(reasons) > 10
    assert {reason for reason in reasons if reason not in REASONS} == set()


@pytest.mark.parametrize("word", sorted({*PROBLEMS, *REASONS}))
def test_rows_are_sentences(word: str) -> None:
    means, fix = advice_on(word)
    assert means.endswith(".")
    assert not fix or fix.endswith(".")
    assert ";" not in means + fix


@pytest.mark.parametrize("reason", sorted(REASONS))
def test_what_spoils_a_run_has_a_remedy(reason: str) -> None:
    assert reason in NOTES or advice_on(reason).fix


def test_a_rule_behind_a_colon_is_passed_over() -> None:
    assert advice_on("excluded:AAHEAD") == REASONS["excluded"]
    assert advice_on("never heard of").means == ""
