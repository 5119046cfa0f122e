"""`xnat-ingest resource put` that is ended early: what it says of each file is what the server holds."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.contract.test_resource_verbs import SESSION, Run, contents, make, run, stop
from tests.standin import Fault, StandIn
from xnat_ingest.cli import resource
from xnat_ingest.commands.resources import files as resourcefiles
from xnat_ingest.commands.resources.put import Put
from xnat_ingest.core import ServerSaid
from xnat_ingest.xnat.client import XnatClient

__all__ = ["run", "stop"]

FILES = r"PUT .*/files/"
PUT = ("put", ".", "--label", "NOTES", *SESSION)


@pytest.fixture
def six(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Six files in the current folder, which go in three requests."""
    monkeypatch.setattr(resourcefiles, "TAR_FILES", 2)
    names = {f"f{number}" for number in range(6)}
    monkeypatch.chdir(make(tmp_path / "six", {name: name.encode() * 300 for name in names}))
    return names


def stored(site: StandIn) -> set[str]:
    session = site.archived("DEMO", "S1", "E1")
    assert session is not None
    return set(contents(session.resources["NOTES"])) if "NOTES" in session.resources else set()


def told(out: str, code: int, names: set[str]) -> dict[str, Any]:
    """The result in JSON: it has each file once, and the code."""
    result: dict[str, Any] = json.loads(out)
    of_each = [*result["sent"], *result["already_there"], *result["different"], *result["failed"]]
    assert (sorted(of_each), result["exit_code"]) == (sorted(names), code)
    return result


@pytest.mark.parametrize("digests", [True, False])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", range(1, 9))
def test_a_signal_at_any_request(
    site: StandIn,
    run: Run,
    six: set[str],
    stop: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    when: str,
    digests: bool,
) -> None:
    """The owner's three, the listing, the resource itself, and three of files. What was sent by then is told; the rest
    is named."""
    site.settings.checksums = digests
    ask, asked = XnatClient.request, list[str]()

    def struck(rest: XnatClient, method: str, path: str, *given: Any, **more: Any) -> Any:
        asked.append(f"{method} {path}")
        if len(asked) == number and when == "before":
            stop()
        reply = ask(rest, method, path, *given, **more)
        if len(asked) == number and when == "after":
            stop()
        return reply

    monkeypatch.setattr(XnatClient, "request", struck)
    code, out, err = run(*PUT, "--json")
    assert (code, len(asked) >= number) == (143, True), asked
    result = told(out, 143, six)
    assert set(result["sent"]) == stored(site)
    assert all(f"failed {name}: not s" in err for name in result["failed"])
    assert "xnat-ingest: terminated" in err or not result["failed"]
    monkeypatch.setattr(XnatClient, "request", ask)
    assert (
        run(*PUT)[1]
        == f"{6 - len(result['sent'])} sent, {len(result['sent'])} already there, 0 different, 0 failed: exit 0\n"
    )


def test_a_signal_while_a_request_hangs(
    site: StandIn, run: Run, six: set[str], stop: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server took the first two, and does not answer any more."""
    monkeypatch.setattr(resource, "GRACE", 0.3)
    send = Put._put

    def hanging(put: Put, *given: Any) -> bool:
        if stored(site):
            stop()
            time.sleep(2)
        return send(put, *given)

    monkeypatch.setattr(Put, "_put", hanging)
    code, out, err = run(*PUT)
    assert (code, out) == (143, "0 sent, 0 already there, 0 different, 6 failed: exit 143\n")
    assert (err.count(": not known whether it is stored: "), err.count(": not sent: ")) == (4, 2)


def test_a_signal_before_the_server_answers_at_all(
    site: StandIn, run: Run, six: set[str], stop: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "GRACE", 0.3)

    def login(_: XnatClient) -> None:
        stop()
        time.sleep(2)

    monkeypatch.setattr(XnatClient, "login", login)
    code, out, _ = run(*PUT, "--json")
    result = told(out, 143, six)
    assert (code, result["resource"], len(result["failed"])) == (143, "", 6)


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_an_error_after_something_was_stored(site: StandIn, run: Run, six: set[str], flags: tuple[str, ...]) -> None:
    """The error is told as ever, with its code, and beside it what is stored by now."""
    site.faults.add(Fault("status", FILES, status=403, skip=1))
    code, out, err = run(*PUT, *flags)
    assert (code, len(stored(site))) == (6, 2)
    assert "the server answered 403" in err
    assert (err.count(": not stored whole when "), err.count(": not sent: ")) == (2, 2)
    if flags:
        assert set(told(out, 6, six)["sent"]) == stored(site)
    else:
        assert out == "2 sent, 0 already there, 0 different, 4 failed: exit 6\n"


@pytest.mark.parametrize("digests", [True, False])
@pytest.mark.parametrize("number", range(1, 9))
def test_a_signal_shortly_before_an_error(
    site: StandIn,
    run: Run,
    six: set[str],
    stop: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    digests: bool,
) -> None:
    """Whatever request fails: the code is the signal's, the error is said, and each file is named."""
    site.settings.checksums = digests
    ask, asked = XnatClient.request, list[str]()

    def struck(rest: XnatClient, method: str, path: str, *given: Any, **more: Any) -> Any:
        asked.append(f"{method} {path}")
        if len(asked) == number:
            stop()
            raise ServerSaid(f"{method} {path}", 500, "out of order")
        return ask(rest, method, path, *given, **more)

    monkeypatch.setattr(XnatClient, "request", struck)
    code, out, err = run(*PUT, "--json")
    assert (code, len(asked) >= number) == (143, True), (asked, err)
    assert set(told(out, 143, six)["sent"]) == stored(site)
    assert "xnat-ingest: terminated" in err


@pytest.mark.parametrize("action", ["list", "delete"])
def test_a_signal_shortly_before_an_error_of_another_verb(
    run: Run, stop: Callable[[], None], monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    def struck(_: XnatClient, method: str, path: str, *__: Any, **___: Any) -> Any:
        stop()
        raise ServerSaid(f"{method} {path}", 500, "out of order")

    monkeypatch.setattr(XnatClient, "request", struck)
    code, _, err = run(action, "--label", "NOTES", *SESSION, *(["--yes"] if action == "delete" else []))
    assert (code, "out of order" in err, "terminated" in err) == (143, True, True), err
