"""Which part of a tree this process takes when several share it: `--shard K/N`, or the number from a scheduler.

A subject belongs to one shard, chosen by the SHA-256 of its label in lower case. So labels that XNAT takes for the same
subject are in the same shard, and a subject's shard is the same in every run.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from xnat_ingest.core import UsageError

SHARDS = "XNAT_INGEST_SHARDS"
MAX_SHARDS = 100_000


@dataclass(frozen=True, slots=True)
class Shard:
    """number: from 1.
    count: of all shards.
    """

    number: int
    count: int

    def takes(self, subject: str) -> bool:
        """Whether this shard takes the subject with this label."""
        digest = hashlib.sha256(subject.casefold().encode("utf-8", "surrogateescape")).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.number - 1

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def parse_shard(text: str) -> Shard:
    """K/N as a shard. Raises UsageError."""
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    number, count = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= number <= count <= MAX_SHARDS:
        raise UsageError(f"--shard {text}: give K/N with K from 1 to N, such as 2/8, or auto")
    return Shard(number, count)


def shard_of_engine(environ: Mapping[str, str]) -> Shard:
    """The shard from the variables of a Kubernetes Indexed Job or a Slurm array. Raises UsageError.

    Kubernetes counts from 0 and does not say how many shards there are, so XNAT_INGEST_SHARDS must.
    """
    if index := environ.get("JOB_COMPLETION_INDEX", ""):
        if not environ.get(SHARDS):
            raise UsageError(
                f"--shard auto: JOB_COMPLETION_INDEX is set, but {SHARDS} is not; set it to the job's number of "
                "completions"
            )
        return _shard(index, "0", environ[SHARDS], f"JOB_COMPLETION_INDEX and {SHARDS}")
    if task := environ.get("SLURM_ARRAY_TASK_ID", ""):
        first, count = environ.get("SLURM_ARRAY_TASK_MIN", "0"), environ.get("SLURM_ARRAY_TASK_COUNT", "")
        return _shard(task, first, count, "SLURM_ARRAY_TASK_ID, _MIN and _COUNT")
    raise UsageError(
        "--shard auto: neither JOB_COMPLETION_INDEX (Kubernetes) nor SLURM_ARRAY_TASK_ID (Slurm) is set; give K/N"
    )


def _shard(index: str, first: str, count: str, names: str) -> Shard:
    if not (index.isdecimal() and first.isdecimal() and count.isdecimal()):
        raise UsageError(f"--shard auto: {names} must be numbers")
    number = int(index) - int(first) + 1
    if not 1 <= number <= int(count) <= MAX_SHARDS:
        raise UsageError(
            f"--shard auto: {names} do not match: shard {number} of {int(count)}; use an array without steps"
        )
    return Shard(number, int(count))
