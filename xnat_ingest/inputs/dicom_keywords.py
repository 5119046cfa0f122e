"""DICOM's words for elements and UIDs. The library's dictionary is loaded when somebody uses one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from xnat_ingest.core import UsageError


def tags_of(keywords: Iterable[str]) -> dict[str, int]:
    """Keyword -> tag, of words that are known to be keywords."""
    if not (words := list(keywords)):
        return {}
    from pydicom.datadict import tag_for_keyword

    found = {word: tag_for_keyword(word) for word in words}
    assert None not in found.values(), found  # check_keywords came first  # noqa: S101
    return {word: tag for word, tag in found.items() if tag is not None}


def is_keyword(word: str) -> bool:
    from pydicom.datadict import tag_for_keyword

    return tag_for_keyword(word) is not None


def check_keywords(keywords: Iterable[str]) -> None:
    """Raises UsageError for a word that is no DICOM keyword, naming the nearest one."""
    from pydicom.datadict import keyword_dict, tag_for_keyword

    for keyword in keywords:
        if tag_for_keyword(keyword) is None:
            known = {word.lower(): word for word in keyword_dict}
            near = difflib.get_close_matches(keyword.lower(), known, n=1)
            hint = f"; did you mean {known[near[0]]}?" if near else ""
            raise UsageError(f"{keyword} is not a DICOM keyword{hint}")


def uid_of(name: str) -> str:
    """The UID that a keyword such as SecondaryCaptureImageStorage stands for; a UID as it is. Raises UsageError."""
    if not name.isidentifier():
        return name
    import pydicom.uid

    known = [word for word in vars(pydicom.uid) if isinstance(getattr(pydicom.uid, word), pydicom.uid.UID)]
    if name in known:
        return str(getattr(pydicom.uid, name))
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise UsageError(f"{name} is neither a UID nor the keyword of one{hint}")
