"""The program's name and version, for logs, reports and the User-Agent."""

__version__ = "0.1.0"
