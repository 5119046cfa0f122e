"""Words that stand alone in a text, the longest first. The work grows with the text, not with the number of words."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Iterator, Mapping
from heapq import heapify, heappop, heappush

from xnat_ingest.core import LABEL
from xnat_ingest.inputs.source import go_on, heard

_Fits = Callable[[str], bool]

# A mark behind each character that no letter or digit follows, so behind the last one. A marked word that begins a
# marked text has no letter or digit behind it there.
_MARK = "\0"
_BEFORE_A_GAP = re.compile(r".(?![^\W_])", re.DOTALL)
_SIGN = re.compile(r"[\W_]")
_LIKE_A_LABEL = re.compile(r"[\w-]+")


class StandingWords:
    """Words that are not part of longer ones, and what is said in place of each.

    A word that no label can have stands for itself before or behind `_` and `-`, too, where labels are joined of names.
    """

    def __init__(self, instead: Mapping[str, str], check_stop: Callable[[], None] = go_on) -> None:
        """instead: word -> what is said in its place. No word is empty, or has a zero byte."""
        self._instead = instead
        others = (word for word in heard(instead, check_stop) if not LABEL.fullmatch(word))
        self._words = sorted(map(_marked, others))
        self._longest = max(map(len, self._words), default=0)
        self._shorter = dict(_shorter(heard(self._words, check_stop)))

    def replaced(self, text: str) -> str:
        """The text with something else in place of each word that stands alone in it."""
        pieces, end = [], 0
        for begin, word in self._places(text):
            pieces += [text[end:begin], self._instead[word]]
            end = begin + len(word)
        return "".join([*pieces, text[end:]])

    def _places(self, text: str) -> Iterable[tuple[int, str]]:
        """Where words are replaced, in order. Of two that overlap, or lie side by side, it is the longer one."""
        waiting = [(-len(word), word, at) for at, word in self._candidates(text)]
        heapify(waiting)
        taken = _Taken()
        while waiting:
            _, word, at = heappop(waiting)
            room = taken.room(at, word)
            if len(word) <= room:
                taken.add(at, word)
            elif room and (shorter := self._within(word, room)):
                heappush(waiting, (-len(shorter), shorter, at))
        return taken

    def _candidates(self, text: str) -> Iterator[tuple[int, str]]:
        """The longest words that stand alone: for each place one at most, and one that a label can have."""
        runs = ((run.start(), run[0]) for run in _LIKE_A_LABEL.finditer(text))
        yield from ((at, run) for at, run in runs if run in self._instead and LABEL.fullmatch(run))
        marked, ends = _marked(text), [found.start() for found in _BEFORE_A_GAP.finditer(text)]
        for at in (0, *(found.end() for found in _SIGN.finditer(text))):
            begin = at + bisect_left(ends, at)
            if word := self._beginning(marked[begin : begin + self._longest]):
                yield at, word

    def _beginning(self, text: str) -> str:
        """The longest word that a text begins with, "" for none. All words that begin it begin the one before it."""
        before = bisect_right(self._words, text)
        return self._first(self._words[before - 1] if before else "", text.startswith)

    def _within(self, word: str, room: int) -> str:
        """The longest of the words that another one begins with for which there is room, "" for none."""
        if LABEL.fullmatch(word):
            return ""  # shorter ones do not stand alone
        return self._first(_marked(word), lambda marked: len(marked.replace(_MARK, "")) <= room)

    def _first(self, marked: str, fits: _Fits) -> str:
        """The first that fits of a word and those that it begins with, from the longest on. All behind it fit, too."""
        while not fits(marked):
            shorter, much_shorter = self._shorter.get(marked, ("", ""))
            marked = shorter if fits(much_shorter) else much_shorter
        return marked.replace(_MARK, "")


class _Taken:
    """Places of a text that have been replaced."""

    def __init__(self) -> None:
        self._begins: list[int] = []
        self._words: dict[int, str] = {}

    def __iter__(self) -> Iterator[tuple[int, str]]:
        return ((begin, self._words[begin]) for begin in self._begins)

    def add(self, at: int, word: str) -> None:
        insort(self._begins, at)
        self._words[at] = word

    def room(self, at: int, word: str) -> int:
        """How long a word may be that begins here. Right beside another word there is none: it became letters."""
        next_one = bisect_left(self._begins, at)
        if next_one:
            begin = self._begins[next_one - 1]
            before = self._words[begin]
            if begin + len(before) > at - (before != word):
                return 0
        return max(self._begins[next_one] - at - 1, 0) if next_one < len(self._begins) else len(word)


def _marked(text: str) -> str:
    return _BEFORE_A_GAP.sub(rf"\g<0>{_MARK}", text)


def _shorter(words: Iterable[str]) -> Iterator[tuple[str, tuple[str, str]]]:
    """word -> the longest other word that it begins with, and a much shorter one, both "" if there is none.

    words: in order. Of those that begin with one another, the much shorter one skips many, so that few steps lead to
    any. Words without another one are left out.
    """
    chain, links = [""], [("", "")]
    for word in words:
        while not word.startswith(chain[-1]):
            chain.pop()
            links.pop()
        if len(chain) > 1:
            yield word, links[-1]
        depth = len(chain)
        chain.append(word)
        links.append((word, chain[(depth + 1) & depth]))
