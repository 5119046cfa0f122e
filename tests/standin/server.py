"""The stand-in as a whole: state of the site, lifecycle, and what tests look at."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from tests.standin import account
from tests.standin.archiver import Archiver
from tests.standin.auth import Gate
from tests.standin.balancer import choose_node
from tests.standin.body import Request
from tests.standin.builder import Facts
from tests.standin.closing import rebuild_idle
from tests.standin.containers import Containers
from tests.standin.directarchive import DirectArchive
from tests.standin.faults import Faults
from tests.standin.model import ArchivedSession, Counter, Exchange, Project, Row, Settings, User
from tests.standin.prearchive import Prearchive
from tests.standin.routes import dispatch
from tests.standin.tables import Reply, RestError, page
from tests.standin.tokens import Tokens
from tests.standin.wire import Server

if TYPE_CHECKING:
    from tests.standin.receiver import Receiver

_LEVELS = {"none": 0, "read": 1, "edit": 2, "delete": 3}


class StandIn:
    """An XNAT on the loopback interface. Everything it stores is under ``root``."""

    def __init__(self, root: Path, projects: Sequence[Project] = (), users: Sequence[User] = (), port: int = 0) -> None:
        self.root = Path(root)
        self.prearchive_root = self.root / "prearchive"
        self.archive_root = self.root / "archive"
        self.projects = {project.id: project for project in projects}
        self.users = {user.name: user for user in users}
        self.receiver = User("admin", all_data=True)
        self.settings = Settings()
        self.lock = threading.RLock()
        self.numbers = Counter()
        self.facts: dict[Path, Facts] = {}
        self.busy: dict[str, str] = {}
        """Accession id -> pipeline that holds an open workflow on it."""
        self.errors: list[str] = []
        """Exceptions inside the stand-in itself; a test may assert there are none."""
        self.faults = Faults(self)
        self.containers = Containers()
        self.tokens = Tokens(self)
        self.gate = Gate(self)
        self.prearchive = Prearchive(self)
        self.archiver = Archiver(self)
        self.direct = DirectArchive(self)
        self.requests: list[Exchange] = []
        self._port = port
        self._server: Server | None = None
        self._threads: list[threading.Thread] = []
        self._ended = threading.Event()

    # -- lifecycle

    @property
    def ended(self) -> bool:
        """Whether the site is being stopped."""
        return self._ended.is_set()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Listen and answer in threads of this process."""
        for folder in (self.prearchive_root, self.archive_root):
            folder.mkdir(parents=True, exist_ok=True)
        self._ended.clear()
        self._listen()
        self.spawn(self._timer)

    def _listen(self) -> None:
        self._server = Server(self, self._port)
        self._port = self._server.server_port
        server = self._server
        self.spawn(lambda: server.serve_forever(poll_interval=0.02))

    def stop(self) -> None:
        """Close the port and every connection, end the background task."""
        self._ended.set()
        self._hang_up(hard=False)
        for thread in self._threads:
            thread.join(timeout=5)
        self._threads.clear()

    def _hang_up(self, *, hard: bool) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server.drop_all(hard=hard)
            self._quiet()
            self._server = None

    def _quiet(self, seconds: float = 5.0) -> None:
        """Wait until the threads of the connections have let go of them.

        What is stalled goes on only now, when it must find its connection gone. One release may come too early for a
        request that has not yet come to where it stalls.
        """
        pause = threading.Event()
        ends = time.monotonic() + seconds
        while self._server and self._server.connections() and time.monotonic() < ends:
            self.faults.release()
            pause.wait(0.005)

    def restart(self) -> None:
        """As a Tomcat restart looks: requests in flight are reset, sessions forgotten, rows and files kept."""
        self._hang_up(hard=True)
        self.gate.forget_all()
        self._listen()

    def receive(self, port: int = 0, **setup: Any) -> Receiver:
        """A DICOM receiver of this site, to be used as a context; see ``Receiver`` for its setup."""
        from tests.standin.receiver import Receiver

        return Receiver(self, port, **setup)

    def spawn(self, work: Callable[[], object]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _timer(self) -> None:
        while not self._ended.wait(min(0.05, (self.settings.rebuilder_interval or 1) / 4)):
            try:
                rebuild_idle(self)
                self.direct.archive_idle()
            except Exception as error:  # noqa: BLE001 - the task must survive, the test must see it
                self.errors.append(repr(error))

    # -- answering

    def answer(self, request: Request) -> Reply:
        """One request: proxy, login, route, error page."""
        choose_node(self, request)
        reply = self.faults.arrived(request)
        if reply is not None:
            return reply
        path = request.path.removeprefix(self.settings.context_path)
        if path in ("/data/services/auth", "/REST/services/auth") and request.method in ("PUT", "POST"):
            reply = account.services_auth(self, request)
        elif path != "/app/template/Login.vm":
            reply = self.gate.enter(request)
        if reply is None:
            try:
                reply = dispatch(self, request)
            except RestError as error:
                reply = page(error.status, error.message)
            self.gate.touch(request)
        reply.headers += self.gate.cookies(request)
        return self.faults.answering(reply)

    def record(self, exchange: Exchange) -> None:
        with self.lock:
            self.requests.append(exchange)

    # -- rights

    def may(self, user: User, project: Project, level: str) -> bool:
        """Whether a user has at least this level on a project."""
        return user.all_data or _LEVELS[project.access.get(user.name, "none")] >= _LEVELS[level]

    def any_project(self, name: str) -> Project | None:
        """A project by id or alias, whoever asks."""
        found = self.projects.get(name)
        return found or next((one for one in self.projects.values() if name in one.aliases), None)

    def readable(self, user: User, name: str) -> Project | None:
        """A project the user can see, by id or alias."""
        found = self.any_project(name)
        return found if found and self.may(user, found, "read") else None

    def petmr_setting(self, project: str | None) -> str | None:
        """``pet``, ``petmr`` or ``separate``, whatever case and blanks the setting has."""
        found = self.projects.get(project or "")
        setting = (found.petmr if found else None) or self.settings.site_petmr
        return setting.strip().lower() if setting else None

    def subject_id(self, session: ArchivedSession) -> str:
        """The accession id of a session's subject."""
        return self.projects[session.subject_project or session.project].subjects[session.subject]

    # -- what tests look at

    @property
    def url(self) -> str:
        """The address to give a client: scheme, host, port, and the context path if there is one."""
        return f"http://127.0.0.1:{self._port}{self.settings.context_path}"

    @property
    def port(self) -> int:
        return self._port

    def share(self, session: ArchivedSession, project: str, label: str | None = None) -> None:
        """Share a session into another project, under a label of its own there or the same one."""
        self.projects[project].shared[label or session.label] = (session.project, session.label)

    def home(self, project: Project, label: str) -> ArchivedSession:
        """The session that is shared into a project under this label."""
        home, there = project.shared[label]
        return self.projects[home].sessions[there]

    def project(self, name: str) -> Project:
        return self.projects[name]

    def user(self, name: str) -> User:
        return self.users[name]

    def archived(self, project: str, subject: str, label: str) -> ArchivedSession | None:
        found = self.projects[project].sessions.get(label)
        return found if found and found.subject == subject else None

    def sessions(self, project: str) -> list[ArchivedSession]:
        return list(self.projects[project].sessions.values())

    def rows(self, project: str | None) -> list[Row]:
        """The prearchive rows of a project; None or ``Unassigned`` for those without one."""
        return self.prearchive.of(None if project == "Unassigned" else project)

    def failed_logins(self, user: str) -> int:
        return self.users[user].failed_logins

    @property
    def sessions_created(self) -> int:
        """How many HTTP sessions logins have made so far."""
        return self.gate.created

    def expire_sessions(self) -> None:
        """Forget every HTTP session, as an idle timeout does."""
        self.gate.forget_all()

    def expire_tokens(self) -> None:
        """End every alias token, and the HTTP sessions that were made from one."""
        self.tokens.expire()
        self.gate.forget_tokens()
