"""What a fault is: its kind, what it strikes, how often, and the numbers of its kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

KINDS = {
    "reset": "reset the connection when ``after`` bytes of the body were read (0: before the body)",
    "reset-reply": "do the work, then reset the connection instead of answering",
    "status": "answer ``status`` without doing the work (``work=True``: after doing it); ``retry_after``, ``message``",
    "too-large": "answer 413 when the body is longer than ``limit`` bytes, as a proxy does",
    "login-page": "answer 200 with the HTML login page, nothing done",
    "empty": "read the body, store nothing, answer 200 without a line (``work=True``: store it, answer the same)",
    "delay": "wait ``seconds`` before anything is done",
    "slow": "read the body at ``rate`` bytes a second",
    "stall": "stop reading after ``after`` bytes of the body, for ``seconds`` or until ``faults.release()``",
    "locked": "answer 409 ``session document locked``",
    "timeout": "answer 500 with the archive timeout's text at once, archive ``seconds`` later all the same",
    "build-fails": "the build ends with the row in ERROR and ``message`` in its log",
    "archive-fails": "archiving fails with ``message``; ``status`` 409 leaves CONFLICT, any other ERROR",
    "slow-build": "the row is _BUILDING for ``seconds``",
    "slow-archive": "the row is _ARCHIVING for ``seconds`` before it is looked at",
    "slow-move": "``seconds`` between the archiver's checks and its moving of files: what arrives then is lost",
    "poison": "refuse the instance: 400 ``unable to read DICOM object NAME``, or ``message`` with {} for the name",
    "lose": "accept the instance and do not keep it",
    "cut": "keep only ``keep`` bytes of the stored file (negative: all but so many)",
    "flip": "change one byte of the stored file, the one that is ``keep`` (negative: from its end; 0: the last one)",
    "swept": "archiving takes the timestamp's folder away with what others have just put there",
    "disk-full": "no space left after ``after`` bytes of the file; the partial file stays",
}


@dataclass
class Fault:
    """One fault; see ``KINDS`` for what each kind does and which numbers it uses."""

    kind: str
    match: str = ""
    times: int | None = 1
    skip: int = 0
    name: str = ""
    after: int = 0
    status: int = 503
    message: str = ""
    limit: int = 1 << 20
    retry_after: str | None = None
    work: bool = False
    seconds: float = 0.0
    rate: int = 100_000
    keep: int = 0
    hits: int = 0
    """How often it has struck so far."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"no such fault: {self.kind}")

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Fault:
        """A fault from JSON; unknown keys are an error."""
        known = {one.name for one in fields(cls)}
        if strange := sorted(set(given) - known):
            raise ValueError(f"unknown keys of a fault: {', '.join(strange)}")
        return cls(**given)
