"""Patterns of rules that would take years end with a sentence, and the others are not disturbed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from xnat_ingest.core import Instance, UsageError
from xnat_ingest.planning import timed_search
from xnat_ingest.planning.rules import Rule, SeriesPlace, make_rule

HANDLER = signal.getsignal(signal.SIGVTALRM)
LONGEST = timed_search.LONGEST


def judge(rule: Rule, description: str) -> bool:
    assert rule.on_content
    uids = ("1.2", "1.3", "1.4", "1.5")
    tags = {"SeriesDescription": description}
    return rule.on_content(Instance("a", 1, 0, *uids, "1", "1", "MR", "", "1.2.840.10008.1.2.1", 0, tags), 1)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(timed_search, "LONGEST", 0.02)
    yield
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGVTALRM) == HANDLER


@pytest.mark.parametrize(
    ("pattern", "value"),
    [
        ("([a-z]+)*$", "a" * 60 + "!"),
        ("(a+)+$", "a" * 60 + "!"),
        (r"(\w*)*\1$", "a" * 60 + "!"),
        ("(.*a){25}$", "a" * 60 + "!"),
        ("(?:a?){60}a{60}\\Z", "a" * 60 + "!"),
        ("(?:a{1,9}){60}b", "a" * 200),
        ("(a|aa)+b", "a" * 60),
        ("(?:a|aa)" * 40 + "b", "a" * 60),
        ("a*b", "a" * 10_000),  # one repetition takes long in a very long value
    ],
)
def test_an_expression_that_would_take_years(pattern: str, value: str) -> None:
    rule = make_rule({"tag": "SeriesDescription", "matches": pattern})
    with pytest.raises(UsageError) as caught:
        judge(rule, value)
    said = str(caught.value)
    assert said.startswith(f"rule SeriesDescription={pattern}: its pattern was not done after 0.02 s with one ")
    assert f"SeriesDescription of {len(value)} characters" in said
    assert "aaaa" not in said


@pytest.mark.parametrize("glob", ["**/*a*a*a*a*a*a*a*a*a*a*a*a*b", "**/" * 30 + "z*b"])
def test_a_glob_that_would_take_years(glob: str) -> None:
    rule = make_rule({"path": glob})
    assert rule.on_path
    with pytest.raises(UsageError, match=r"with one path of 244 characters"):
        rule.on_path(SeriesPlace("a/" * 22 + "a" * 200, ()))


@pytest.mark.parametrize("stars", [3, 4, 24, 3000])
def test_stars_in_a_row_mean_two(stars: int) -> None:
    rule = make_rule({"path": "*" * stars + "/x" + "*" * stars + "y"})
    assert rule.on_path
    assert rule.name == "path=" + "*" * stars + "/x" + "*" * stars + "y"
    wanted = {"a/b/xy": True, "xy": True, "x/a/y": True, "a/x": False, "a" * 250: False}
    assert {name: rule.on_path(SeriesPlace(name, ())) for name in wanted} == wanted


def test_the_limit_is_the_documented_one() -> None:
    assert LONGEST == 1.0
    assert "after a second of processor time" in Path("docs/rules.md").read_text("utf-8")


def test_others_are_matched_as_ever() -> None:
    rule = make_rule({"tag": "SeriesDescription", "matches": "^(t1|t2)_.*(space|mprage)$"})
    found = {value: judge(rule, value) for value in ("t1_x_mprage", "t2_space", "pd_space", "t1_mprage_2", "")}
    assert list(found.values()) == [True, True, False, False, False]
    assert judge(make_rule({"tag": "SeriesDescription", "matches": "b$"}), "a" * 1000 + "b")
    path = make_rule({"path": "*/x/**/*.d?m"})
    assert path.on_path
    wanted = {
        "a/x/1.dcm": True,
        "a/x/b/c/1.dcm": True,
        "a/b/x/1.dcm": False,
        "a/x/1.dcm/y": False,
        "a/x/1.dcm\n": False,
    }
    assert {name: path.on_path(SeriesPlace(name, ())) for name in wanted} == wanted


def test_elsewhere_than_in_the_main_thread_nothing_is_limited() -> None:
    rule = make_rule({"tag": "SeriesDescription", "matches": "(a|b)+c"})
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(judge(rule, "xxabc")))
    thread.start()
    thread.join()
    assert found == [True]


def test_a_timer_of_the_caller_is_left_alone() -> None:
    signal.setitimer(signal.ITIMER_VIRTUAL, 100)
    try:
        assert judge(make_rule({"tag": "SeriesDescription", "matches": "(a|b)+c*"}), "xxabc")
        assert signal.getitimer(signal.ITIMER_VIRTUAL)[0] > 90
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
