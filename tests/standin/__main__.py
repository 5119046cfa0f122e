"""``python -m tests.standin``: the stand-in as a process, for clients that are programs of their own."""

from __future__ import annotations

import argparse
import json
import os
import signal
import threading
from dataclasses import fields
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from tests.standin.fault import KINDS
from tests.standin.identify import Routing
from tests.standin.model import Project, User
from tests.standin.server import StandIn

if TYPE_CHECKING:
    from tests.standin.receiver import Receiver


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; the password comes from STANDIN_PASS."""
    parser = _parser()
    given = parser.parse_args(argv)
    password = os.environ.get("STANDIN_PASS")
    if not password:
        parser.error("set the environment variable STANDIN_PASS")
    names = given.user or ["uploader"]
    users = [User(name, password) for name in names] + [User(name, password, all_data=True) for name in given.admin]
    for one in users:
        one.container_manager = one.name in given.container_manager
    projects = [_project(entry, names) for entry in given.project or ["DEMO"]]
    site = StandIn(given.root, projects, users, port=given.port)
    site.settings.context_path = given.context_path
    site.settings.rebuilder_interval = given.rebuilder_interval
    known = {one.name for one in fields(site.settings)}
    for name, value in json.loads(given.settings).items():
        if name not in known:
            parser.error(f"no such setting: {name}")
        setattr(site.settings, name, value)
    for fault in [*json.loads(os.environ.get("STANDIN_FAULTS", "[]")), *map(json.loads, given.fault)]:
        site.faults.add(fault)
    if given.dicom_port is None:
        return _serve(site)
    with _receiver(site, given.dicom_port, json.loads(given.dicom)) as receiver:
        return _serve(site, f"dicom 127.0.0.1:{receiver.port}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tests.standin",
        description="A stand-in XNAT on the loopback interface.",
        epilog="Faults: " + "; ".join(f"{kind}: {what}" for kind, what in KINDS.items()),
    )
    parser.add_argument("--root", type=Path, required=True, help="where everything received is stored")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--project", action="append", default=[], metavar="ID[:CODE]", help="code 0, 4 or 5; or JSON")
    parser.add_argument("--user", action="append", default=[], metavar="NAME", help="may edit every project")
    parser.add_argument("--admin", action="append", default=[], metavar="NAME", help="may do everything")
    parser.add_argument(
        "--container-manager", action="append", default=[], metavar="NAME", help="a role of a user or an administrator"
    )
    parser.add_argument("--context-path", default="")
    parser.add_argument("--rebuilder-interval", type=float, metavar="SECONDS")
    parser.add_argument("--settings", default="{}", metavar="JSON", help="site settings by name")
    parser.add_argument("--dicom-port", type=int, metavar="PORT", help="also receive by C-STORE; 0: any free port")
    parser.add_argument(
        "--dicom", default="{}", metavar="JSON", help="setup of the receiver by name; routing, tls, faults: objects"
    )
    parser.add_argument(
        "--fault", action="append", default=[], metavar="JSON", help="repeatable; also a JSON list in STANDIN_FAULTS"
    )
    return parser


def _project(entry: str, names: list[str]) -> Project:
    """``ID``, ``ID:CODE``, or an object with the fields of a project."""
    access = dict.fromkeys(names, "edit")
    if entry.startswith("{"):
        return Project(**{"access": access, **json.loads(entry)})
    name, _, code = entry.partition(":")
    return Project(name, code=int(code or 4), access=access)


def _receiver(site: StandIn, port: int, setup: dict[str, Any]) -> Receiver:
    from tests.standin.receiver import ReceiverFaults, Tls

    for name, kind in (("routing", Routing), ("tls", Tls), ("faults", ReceiverFaults)):
        if name in setup:
            setup[name] = kind(**setup[name])
    return site.receive(port, **setup)


def _serve(site: StandIn, *more: str) -> int:
    ended = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        ended.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    with site:
        print("\n".join([f"listening {site.url}", *more]), flush=True)
        while not ended.wait(3600):
            pass
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
