"""Made-up names in sentences: which words are replaced, and how much work it is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from itertools import islice, product

import pytest

from xnat_ingest.core.model import Plan, SetAside
from xnat_ingest.planning.redaction import RedactedSource, redacted
from xnat_ingest.planning.standing_words import StandingWords

# names -> sentence, and what becomes of it. The names are numbered in their order.
SENTENCES: list[tuple[tuple[str, ...], str, str]] = [
    (("Anna",), "Anna's scan of Anna, Annabel, 2Anna", "<0>'s scan of <0>, Annabel, 2Anna"),
    (("Anna",), "Anna_1 pre-Anna Anna.dcm", "Anna_1 pre-Anna <0>.dcm"),  # what a label can have is joined by these
    (("Anna W",), "Anna W_1 pre-Anna W", "<0>_1 pre-<0>"),
    (("Anna W", "Anna", "Anna W/IM 1"), "Anna W/IM 1, Anna W/IM 12, Anna", "<2>, <0>/IM 12, <1>"),
    (("x.+yyy", "yyy.+zzzz", "x.+"), "x.+yyy.+zzzz", "x.+<1>"),  # beside a name that became letters
    (("x.+yyy", "yyy.zzzz", "x.+"), "x.+yyy.+zzzz", "<0>.+zzzz"),
    (("xyz.+yyy", "yyy.+zzzz", "xyz"), "xyz.+yyy.+zzzz", "<2>.+<1>"),  # the shorter one, where the longer one has gone
    (("+++",), "++++++++", "<0><0>++"),
    (("+++", "++++"), "+++++++", "<1>+++"),
    (("---",), "------- --- a---", "------- <0> a---"),
    (("-" * 65,), "-" * 70, "<0>-----"),  # no label is so long
    (("M\u00fc",), "M\u00fc M\u00fcl M\u00fc_ \u0663M\u00fc", "<0> M\u00fcl <0>_ \u0663M\u00fc"),
    (("(a)",), "b(a) (a)\n(a)b", "b(a) <0>\n(a)b"),
    ((), "nothing", "nothing"),
    (("abc",), "", ""),
]


@pytest.mark.parametrize(("names", "sentence", "said"), SENTENCES)
def test_which_names_are_replaced(names: tuple[str, ...], sentence: str, said: str) -> None:
    words = StandingWords({name: f"n{number}n" for number, name in enumerate(names)})
    for number in range(len(names)):
        said = said.replace(f"<{number}>", f"n{number}n")
    assert words.replaced(sentence) == said


def test_names_that_begin_with_one_another() -> None:
    """Of very many such names, few are compared."""
    words = StandingWords({"+" * size: f"({size})" for size in range(1, 300)})
    for size in (1, 2, 3, 4, 7, 8, 63, 64, 127, 128, 255, 256, 257, 299):
        assert words.replaced("x " + "+" * size + " y") == f"x ({size}) y"
        assert words.replaced("+" * size + "-") == f"({size})-"


def digits() -> Iterator[str]:
    return ("-".join(some) for some in product("0123456789", repeat=5))


def signs() -> Iterator[str]:
    return ("".join(some) for some in product("-~+=!^", repeat=6))


def nested() -> Iterator[str]:
    return ("+" * size for size in range(3, 10_000))


def plan_of(names: Callable[[], Iterator[str]], number: int) -> Plan:
    paths = [f"s/x/{name}" for name in islice(names(), 2 * number)]
    aside = (SetAside(two, "duplicate", f"same as {one}") for one, two in zip(paths[::2], paths[1::2], strict=True))
    return Plan("P", (), tuple(aside), (), 0)


def calls(work: Callable[[], object]) -> int:
    """How many functions are called."""
    number = 0

    def count(*_: object) -> None:
        nonlocal number
        number += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
    return number


class _NoSource:
    """A source whose files nobody opens."""


@pytest.mark.parametrize("names", [digits, signs])
def test_the_work_for_a_sentence_does_not_grow_with_the_names(names: Callable[[], Iterator[str]]) -> None:
    few, many = (
        calls(lambda: redacted(plan_of(names, number), RedactedSource(_NoSource())))  # type: ignore[arg-type]  # noqa: B023
        for number in (100, 1000)
    )
    assert many < 13 * few


@pytest.mark.parametrize("beside", ["+", "-", " +", "-+"])
def test_the_work_for_names_that_begin_with_one_another(beside: str) -> None:
    """A sentence of other signs begins with few of them, again and again."""
    few, many = (StandingWords(dict.fromkeys(islice(nested(), number), "made up")) for number in (10, 1000))
    text = beside * 200
    assert calls(lambda: many.replaced(text)) < 10 * calls(lambda: few.replaced(text))


@pytest.mark.parametrize("names", [digits, signs])
def test_a_signal_is_heard_between_sentences(names: Callable[[], Iterator[str]]) -> None:
    class Stop(Exception):
        pass

    heard = 0

    def check_stop() -> None:
        nonlocal heard
        heard += 1
        if heard > 200:
            raise Stop

    plan = plan_of(names, 1000)
    with pytest.raises(Stop):
        redacted(plan, RedactedSource(_NoSource()), check_stop=check_stop)  # type: ignore[arg-type]
