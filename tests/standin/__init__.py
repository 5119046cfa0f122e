"""A server that behaves as XNAT does towards uploaders, for tests. See ``StandIn``."""

from tests.standin.fault import KINDS, Fault
from tests.standin.model import ArchivedSession, Exchange, Project, Row, Scan, Settings, User
from tests.standin.server import StandIn

__all__ = ["KINDS", "ArchivedSession", "Exchange", "Fault", "Project", "Row", "Scan", "Settings", "StandIn", "User"]
