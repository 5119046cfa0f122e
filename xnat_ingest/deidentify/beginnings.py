"""Many words at once: which of them stand in a short text, without a look for each."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import AnyStr, Generic

_LONGEST = 4


class Beginnings(Generic[AnyStr]):
    """Words by how they begin."""

    def __init__(self, words: Collection[AnyStr]) -> None:
        self._words: Collection[AnyStr] = words
        # The beginning of some words -> how long these are.
        self._lengths: dict[AnyStr, tuple[int, ...]] = {}
        for word in words:
            known: tuple[int, ...] = self._lengths.get(word[:_LONGEST], ())
            if len(word) not in known:
                self._lengths[word[:_LONGEST]] = (*known, len(word))
        self._sizes = sorted({min(len(word), _LONGEST) for word in words})

    def words_in(self, text: AnyStr) -> Iterator[AnyStr]:
        """The words that stand in a text, each once, in the order of their places."""
        found: set[AnyStr] = set()
        for at in range(len(text) + 1):
            for size in self._sizes:
                for length in self._lengths.get(text[at : at + size], ()):
                    word = text[at : at + length]
                    if word in self._words and word not in found:
                        found.add(word)
                        yield word
