"""Cookies of one host: what is kept, what is taken back, and how much."""

from __future__ import annotations

import pytest

from xnat_ingest.xnat.cookies import LONGEST_COOKIE, MOST_COOKIES, Cookies


def header(*lines: str, login: bool = False) -> str:
    jar = Cookies()
    jar.take(lines, with_session=login)
    return jar.header()


@pytest.mark.parametrize(
    ("line", "sent"),
    [
        ("A=1", "A=1"),
        ("A=1; Path=/; HttpOnly; Secure; SameSite=None", "A=1"),
        ("AWSALB=a+b/c==; Expires=Fri, 31 Dec 2999 23:59:59 GMT", "AWSALB=a+b/c=="),
        ('SESSION_EXPIRATION_TIME="1,900000"; Version=1; Path=/', 'SESSION_EXPIRATION_TIME="1,900000"'),
        ("BIGipServer~x~pool=!abc.def:80; path=/", "BIGipServer~x~pool=!abc.def:80"),
        ("A=", "A="),
        ("A=1; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT", "A=1"),
        ("A=1; Expires=nonsense", "A=1"),
        ("A", ""),
        ("=1", ""),
        ("A B=1", ""),
        ("A=\x01", ""),
        ("A=1\r\nX: y", ""),
        ("A=ä", ""),
        (f"A={'x' * LONGEST_COOKIE}", f"A={'x' * LONGEST_COOKIE}"),
        (f"A={'x' * (LONGEST_COOKIE + 1)}", ""),
        ("JSESSIONID=theirs", ""),
    ],
)
def test_one_line(line: str, sent: str) -> None:
    assert header(line) == sent


@pytest.mark.parametrize("end", ["Max-Age=0", "max-age=-1", "Expires=Thu, 01 Jan 1970 00:00:00 GMT"])
def test_taken_back(end: str) -> None:
    assert header("A=1", "B=2", f"A=x; {end}") == "B=2"


def test_a_login_sets_the_session_and_nothing_else_does() -> None:
    jar = Cookies()
    jar.take(["JSESSIONID=ours.node1; Path=/"], with_session=True)
    jar.take(["JSESSIONID=a guest's", "JSESSIONID=; Max-Age=0"])
    assert jar.session == "ours.node1"


def test_so_many_and_no_more() -> None:
    jar = Cookies()
    jar.take(f"C{number}=1" for number in range(MOST_COOKIES + 5))
    assert jar.header().count("=") == MOST_COOKIES
    jar.take(["C0=2"])
    assert "C0=2" in jar.header()
