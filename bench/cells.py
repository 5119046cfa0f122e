"""What the whole table of docs/performance.md consists of: `python -m bench --whole`.

Each cell is one data set on one link, with the tools that run there and how often. All of it takes three quarters of an
hour on two quiet cores. So a tool that takes minutes runs once. These are left out:

- `xnatctl` in its other modes on slow links: what they need most is a processor, whatever the link
- `xnatctl` for (e): it would start 300 times
- most tools for (d) at 12.5 MB/s: 2 GB take 160 s there
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.contenders import FLOOR, GRADUAL, OURS, TAR, XNATPY, ZIP, ZIP_AND_CURL


@dataclass(frozen=True)
class Cell:
    """rounds: tool -> how often it runs. Ours is the first."""

    data: str
    link: str
    rounds: Mapping[str, int]


WHOLE = (
    Cell("a", "unlimited", {OURS: 3, TAR: 3, FLOOR: 3, ZIP_AND_CURL: 1, XNATPY: 1, ZIP: 1, GRADUAL: 1}),
    Cell("b", "unlimited", {OURS: 3, TAR: 3, FLOOR: 3, ZIP_AND_CURL: 1, XNATPY: 1, ZIP: 1, GRADUAL: 1}),
    Cell("c", "unlimited", {OURS: 3, TAR: 1, FLOOR: 3, ZIP_AND_CURL: 1, XNATPY: 1}),
    Cell("d", "unlimited", {OURS: 3, TAR: 3, FLOOR: 3, ZIP_AND_CURL: 1, XNATPY: 1, ZIP: 1, GRADUAL: 1}),
    Cell("e", "unlimited", {OURS: 3, XNATPY: 3, ZIP_AND_CURL: 3, FLOOR: 3}),
    Cell("a", "30 ms", {OURS: 3, TAR: 3, FLOOR: 3, ZIP_AND_CURL: 1}),
    Cell("b", "30 ms", {OURS: 2, TAR: 2, FLOOR: 2, ZIP_AND_CURL: 1}),
    Cell("c", "30 ms", {OURS: 2, FLOOR: 2, ZIP_AND_CURL: 1, XNATPY: 1}),
    Cell("d", "30 ms", {OURS: 2, TAR: 2, FLOOR: 2}),
    Cell("e", "30 ms", {OURS: 2, XNATPY: 2, ZIP_AND_CURL: 1, FLOOR: 2}),
    Cell("a", "12.5 MB/s", {OURS: 1, TAR: 1, FLOOR: 1, ZIP_AND_CURL: 1, XNATPY: 1, ZIP: 1}),
    Cell("b", "12.5 MB/s", {OURS: 1, TAR: 1, FLOOR: 1, ZIP_AND_CURL: 1, XNATPY: 1}),
    Cell("c", "12.5 MB/s", {OURS: 1, TAR: 1, FLOOR: 1, ZIP_AND_CURL: 1, XNATPY: 1}),
    Cell("e", "12.5 MB/s", {OURS: 2, XNATPY: 2, ZIP_AND_CURL: 2, FLOOR: 1}),
    Cell("d", "12.5 MB/s", {OURS: 1, TAR: 1, ZIP_AND_CURL: 1}),
)
