"""Faults a test may switch on (filled in later: here only the hooks the server calls)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tests.standin.model import Row
from tests.standin.tables import Reply

if TYPE_CHECKING:
    from tests.standin.wire import Handler, Request


class Faults:
    """The hooks."""

    def received(self, handler: Handler, data: bytes) -> bytes:
        return data

    def refuse_name(self, name: str) -> None:
        return None

    def during(self, what: str, row: Row) -> None:
        return None

    def stored(self, row: Row, target: Path, blocks: Iterator[bytes]) -> Iterator[bytes]:
        return blocks

    def after_file(self, row: Row, target: Path) -> None:
        return None

    def timeout(self, row: Row, work: Callable[[], str]) -> None:
        return None

    def arrived(self, request: Request) -> None:
        return None

    def instead(self, request: Request) -> Reply | None:
        return None

    def before_reply(self, request: Request, reply: Reply) -> Reply:
        return reply

    def anonymize(self, which: str, path: Path, row: Row) -> bool:
        return False
