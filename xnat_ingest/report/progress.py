"""Sessions in flight: live lines on a terminal, a word now and then elsewhere."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from typing import Protocol

REDRAW = 0.1  # seconds between two drawings
HEARTBEAT = 30.0  # seconds between two plain lines of one session


class Stream(Protocol):
    def write(self, text: str, /) -> int: ...

    def flush(self) -> None: ...

    def isatty(self) -> bool: ...


def amount(number: float) -> str:
    """Bytes for people, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" or number >= 100 else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


@dataclass(slots=True)
class _Transfer:
    instances: int
    bytes: int
    begun: float
    spoken: float
    done_instances: int = 0
    done_bytes: int = 0

    def text(self, title: str, now: float) -> str:
        elapsed = max(now - self.begun, 0.001)
        rate = self.done_bytes / elapsed
        left = (self.bytes - self.done_bytes) / rate if rate else 0
        time_left = f"{int(left) // 60}:{int(left) % 60:02d} left" if rate and left > 0 else "closing"
        return (
            f"send    {title}  {self.done_instances}/{self.instances}  "
            f"{amount(self.done_bytes)} of {amount(self.bytes)}  {amount(rate)}/s  {time_left}"
        )


class ProgressDisplay:
    """Where log lines and live lines share one stream. Not thread-safe: its owner holds the lock."""

    def __init__(self, stream: Stream, *, live: bool) -> None:
        self._stream = stream
        self._live = live
        self._flights: dict[str, _Transfer] = {}
        self._drawn = 0
        self._last = 0.0

    def begin(self, title: str, instances: int, size: int) -> None:
        now = time.monotonic()
        self._flights[title] = _Transfer(instances, size, now, now)

    def advance(self, title: str, instances: int, size: int) -> None:
        flight = self._flights.get(title)
        if flight is None:
            return
        flight.done_instances += instances
        flight.done_bytes += size
        now = time.monotonic()
        if self._live and now - self._last > REDRAW:
            self._erase()
            self._draw(now)
        elif not self._live and now - flight.spoken > HEARTBEAT:
            flight.spoken = now
            self.say(flight.text(title, now))

    def end(self, title: str) -> None:
        self._erase()
        self._flights.pop(title, None)

    def say(self, line: str) -> None:
        self._erase()
        print(line, file=self._stream, flush=True)

    def close(self) -> None:
        self._erase()
        self._flights.clear()

    def _draw(self, now: float) -> None:
        width = shutil.get_terminal_size().columns - 1
        lines = [flight.text(title, now)[:width] for title, flight in self._flights.items()]
        self._stream.write("".join(f"{line}\n" for line in lines))
        self._stream.flush()
        self._drawn = len(lines)
        self._last = now

    def _erase(self) -> None:
        if self._drawn:
            self._stream.write(f"\x1b[{self._drawn}A\x1b[J")
            self._drawn = 0
