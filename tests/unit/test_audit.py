"""What is made of pip-audit's answer: nothing known, something known, half an answer, and none."""

from __future__ import annotations

from typing import Any

import pytest

from tests import audit

CLEAN: dict[str, Any] = {"name": "a", "version": "1", "vulns": []}
HOLED: dict[str, Any] = {"name": "b", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["2.1"]}]}
SKIPPED: dict[str, Any] = {"name": "c", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("packages", "code", "says"),
    [
        ([CLEAN], 0, "1 packages, no known vulnerability"),
        ([CLEAN, HOLED], 1, "b 2: CVE-1, mended in 2.1"),
        ([CLEAN, SKIPPED], 1, "c: not checked (not found)"),
        ([SKIPPED, SKIPPED], None, "no data"),
        ([], None, "no data"),
    ],
)
def test_answers(packages: list[dict[str, Any]], code: int | None, says: str) -> None:
    found, lines = audit.judge({"dependencies": packages})
    assert found == code
    assert any(line.startswith(says) for line in lines)


def test_no_answer_is_no_clean_one() -> None:
    """It ends with 0, and says that it knows nothing."""
    code, lines = audit.judge(None)
    assert code is None
    assert lines == ["no data: no database of vulnerabilities answers here"]


def test_what_cannot_be_reached_is_named_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "UNREACHABLE", {"CVE-1": "that module is not loaded"})
    assert audit.judge({"dependencies": [HOLED]}) == (0, ["b 2: CVE-1, cannot be reached: that module is not loaded"])


@pytest.mark.parametrize(
    "errors",
    [
        "requests.exceptions.ConnectionError: HTTPSConnectionPool(host='x', port=443): Max retries exceeded",
        "pip_audit._service.interface.ConnectionError: Could not connect to x's vulnerability feed",
        "requests.exceptions.ReadTimeout: Read timed out.",
    ],
)
def test_nobody_there(errors: str) -> None:
    assert audit.answer("", f"Traceback ...\n{errors}\n") is None


@pytest.mark.parametrize("errors", ["", "ERROR:pip_audit._cli:invalid requirements input: x", "KeyError: 'vulns'"])
def test_an_auditor_that_fails_is_no_missing_database(errors: str) -> None:
    with pytest.raises(SystemExit, match="pip-audit itself failed"):
        audit.answer("", errors)
