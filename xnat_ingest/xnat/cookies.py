"""The cookies of one login: XNAT's session, and those of a load balancer in front of it."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterable
from email.utils import parsedate_to_datetime

from xnat_ingest.core.secrets import remember

SESSION = "JSESSIONID"
# Tomcat refuses a request when its headers exceed 8 kB in total.
MOST_COOKIES = 50
LONGEST_COOKIE = 4096
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r'[!-:<-~]*|"[ -~]*"')


class Cookies:
    """The cookies of one host. Safe to use from several threads.

    A new login begins with an empty jar, so that a balancer does not send us to a node that is gone.
    """

    def __init__(self) -> None:
        self._values: dict[str, str] = {}
        self._lock = threading.Lock()

    @property
    def session(self) -> str:
        """XNAT's session id, "" before the login."""
        return self._values.get(SESSION, "")

    @session.setter
    def session(self, value: str) -> None:
        with self._lock:
            self._values[SESSION] = value

    def take(self, lines: Iterable[str], *, with_session: bool = False) -> None:
        """Stores the cookies of Set-Cookie lines.

        with_session: this is the answer to a login. Any other answer that sets a session has lost ours, and its session
            is a guest's.
        """
        for line in lines:
            name, value, gone = _parse(line)
            if name == SESSION:
                remember(value)  # an answer may quote what it sets
            if not name or (name == SESSION and not with_session):
                continue
            with self._lock:
                if gone:
                    self._values.pop(name, None)
                elif name in self._values or len(self._values) < MOST_COOKIES:
                    self._values[name] = value

    def header(self) -> str:
        """The value of a Cookie header, "" when there are none."""
        with self._lock:
            return "; ".join(f"{name}={value}" for name, value in self._values.items())

    def secrets(self) -> list[str]:
        """The values that are secret."""
        with self._lock:
            return [value for value in self._values.values() if value]


def _parse(line: str) -> tuple[str, str, bool]:
    """(name, value, whether it is to be deleted). The name is "" for a cookie that cannot be sent."""
    pair, *attributes = line[: 2 * LONGEST_COOKIE].split(";")
    name, equals, value = (part.strip() for part in pair.partition("="))
    if not (equals and _NAME.fullmatch(name) and _VALUE.fullmatch(value) and len(value) <= LONGEST_COOKIE):
        return "", "", False
    said = {key.strip().lower(): text.strip() for key, _, text in (part.partition("=") for part in attributes)}
    return name, value, _is_over(said)


def _is_over(said: dict[str, str]) -> bool:
    """Whether the server deletes the cookie. Max-Age has precedence over Expires."""
    if age := said.get("max-age", ""):
        return not age.isdecimal() or not age.strip("0")
    try:
        return parsedate_to_datetime(said["expires"]).timestamp() < time.time()
    except (KeyError, TypeError, ValueError, OverflowError):
        return False
