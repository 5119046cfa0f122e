"""``python -m tests.standin``: the stand-in as a process, for clients that are programs of their own."""

from __future__ import annotations

import argparse
import os
import signal
import threading
from pathlib import Path
from types import FrameType

from tests.standin.model import Project, User
from tests.standin.server import StandIn


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; the password comes from STANDIN_PASS."""
    parser = argparse.ArgumentParser(prog="tests.standin", description="A stand-in XNAT on the loopback interface.")
    parser.add_argument("--root", type=Path, required=True, help="where everything received is stored")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--project", action="append", default=[], metavar="ID[:CODE]", help="code 0, 4 or 5")
    parser.add_argument("--user", action="append", default=[], metavar="NAME", help="may edit every project")
    parser.add_argument("--admin", action="append", default=[], metavar="NAME", help="may do everything")
    parser.add_argument("--context-path", default="")
    parser.add_argument("--rebuilder-interval", type=float, metavar="SECONDS")
    given = parser.parse_args(argv)
    password = os.environ.get("STANDIN_PASS")
    if not password:
        parser.error("set the environment variable STANDIN_PASS")
    names = given.user or ["uploader"]
    access = dict.fromkeys(names, "edit")
    projects = []
    for entry in given.project or ["DEMO"]:
        name, _, code = entry.partition(":")
        projects.append(Project(name, code=int(code or 4), access=dict(access)))
    users = [User(name, password) for name in names] + [User(name, password, all_data=True) for name in given.admin]
    site = StandIn(given.root, projects, users, port=given.port)
    site.settings.context_path = given.context_path
    site.settings.rebuilder_interval = given.rebuilder_interval
    ended = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        ended.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    with site:
        print(f"listening {site.url}", flush=True)
        while not ended.wait(3600):
            pass
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
