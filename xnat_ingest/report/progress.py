"""The progress of a run: live lines on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from typing import Protocol

from xnat_ingest.core import printable

REDRAW = 0.1  # seconds between two drawings
HEARTBEAT = 30.0  # seconds between two plain lines
# How many running sessions are drawn. The others are only counted.
MOST_DRAWN = 6


class Stream(Protocol):
    def write(self, text: str, /) -> int: ...

    def flush(self) -> None: ...

    def isatty(self) -> bool: ...


def amount(number: float) -> str:
    """A number of bytes for people, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" or number >= 100 else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def clock(seconds: float) -> str:
    """Hours, minutes and seconds, as on a clock: 1:02:03, 2:03."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


@dataclass(slots=True)
class _Transfer:
    """One session that is being sent."""

    instances: int
    bytes: int
    done_instances: int = 0
    done_bytes: int = 0

    def text(self, title: str) -> str:
        if self.done_bytes >= self.bytes:
            return f"  {title}  {self.done_instances}/{self.instances}  waiting for the server"
        return f"  {title}  {self.done_instances}/{self.instances}  {amount(self.done_bytes)} of {amount(self.bytes)}"


@dataclass(slots=True)
class _Whole:
    """The run: how many sessions and bytes there are, how many are done, and when it began."""

    sessions: int
    bytes: int
    begun: float
    done_sessions: int = 0
    done_bytes: int = 0  # of sessions that have ended, sent or not
    sent: int = 0

    def text(self, under_way: int, now: float) -> str:
        """under_way: bytes of sessions that have not ended yet."""
        done = min(self.bytes, self.done_bytes + under_way)
        share = done / self.bytes if self.bytes else 1.0
        elapsed = max(now - self.begun, 0.001)
        words = [
            f"send    {self.done_sessions}/{self.sessions} sessions",
            f"{100 * share:.0f} %",
            f"{amount(done)} of {amount(self.bytes)}",
            f"{amount(self.sent / elapsed)}/s",
        ]
        if 0 < share < 1:
            words.append(f"{clock(elapsed * (1 - share) / share)} left")
        return "  ".join(words)


class ProgressDisplay:
    """Log lines and live lines on one stream. Not thread-safe: its owner holds the lock."""

    def __init__(self, stream: Stream, *, live: bool) -> None:
        self._stream = stream
        self._live = live
        self._transfers: dict[str, _Transfer] = {}
        self._whole: _Whole | None = None
        self._scanning = ""
        self._drawn = 0
        self._last = 0.0
        self._spoken = time.monotonic()

    def scanned(self, files: int, seconds: float) -> None:
        """Notes how many files have been scanned so far."""
        self._scanning = f"scan    {files} files  {files / max(seconds, 0.001):.0f} files/s"
        self._tell(self._scanning)

    def plan(self, sessions: int, size: int) -> None:
        """Notes how much is to be sent. size: in bytes."""
        self._scanning = ""
        self._whole = _Whole(sessions, size, time.monotonic())

    def begin(self, title: str, instances: int, size: int) -> None:
        self._transfers[title] = _Transfer(instances, size)

    def advance(self, title: str, instances: int, size: int) -> None:
        transfer = self._transfers.get(title)
        if transfer is None:
            return
        transfer.done_instances += instances
        transfer.done_bytes += size
        if self._whole:
            self._whole.sent += size
        self._tell(self._overall())

    def end(self, title: str) -> None:
        self._erase()
        transfer = self._transfers.pop(title, None)
        if self._whole:
            self._whole.done_sessions += 1
            self._whole.done_bytes += transfer.bytes if transfer else 0

    def say(self, line: str) -> None:
        self._erase()
        print(printable(line), file=self._stream, flush=True)  # titles contain the server's name for the project

    def close(self) -> None:
        self._erase()
        self._transfers.clear()
        self._whole = None

    def _overall(self) -> str:
        if self._whole is None:
            return ""
        return self._whole.text(sum(min(t.done_bytes, t.bytes) for t in self._transfers.values()), time.monotonic())

    def _tell(self, plain: str) -> None:
        """Redraws on a terminal; elsewhere prints a plain line now and then."""
        now = time.monotonic()
        if self._live and now - self._last > REDRAW:
            self._erase()
            self._draw(now)
        elif not self._live and plain and now - self._spoken > HEARTBEAT:
            self._spoken = now
            self.say(plain)

    def _draw(self, now: float) -> None:
        size = shutil.get_terminal_size()
        lines = [self._scanning or self._overall()]
        room = max(0, min(MOST_DRAWN, size.lines - 3))
        lines += [transfer.text(title) for title, transfer in list(self._transfers.items())[:room]]
        if len(self._transfers) > room:
            lines.append(f"  ... and {len(self._transfers) - room} more sessions")
        lines = [printable(line)[: size.columns - 1] for line in lines if line]
        self._stream.write("".join(f"{line}\n" for line in lines))
        self._stream.flush()
        self._drawn = len(lines)
        self._last = now

    def _erase(self) -> None:
        if self._drawn:
            # Bypasses the guard against escape sequences: this one is ours.
            control = getattr(self._stream, "control", self._stream.write)
            control(f"\x1b[{self._drawn}A\x1b[J")
            self._drawn = 0
