"""The entry point. It sets signal handlers before the rest is imported."""

from __future__ import annotations

import os

try:
    import signal
except KeyboardInterrupt:
    os._exit(130)


def _end(signum: int, _frame: object) -> None:
    os._exit(130 if signum == signal.SIGINT else 143)


def start() -> None:
    """The console script. Ctrl-C during start-up gives no traceback."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signum = getattr(signal, name, None)
        if signum is not None and signal.getsignal(signum) is not signal.SIG_IGN:  # so that nohup works
            signal.signal(signum, _end)
    from xnat_ingest.cli import script

    script()


if __name__ == "__main__":
    start()
