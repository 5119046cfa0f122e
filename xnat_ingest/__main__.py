"""The entry point. It sets signal handlers before the rest is imported."""

from __future__ import annotations

import os

try:
    import signal
except KeyboardInterrupt:
    os._exit(130)
except MemoryError:
    os.write(2, b"xnat-ingest: cannot start: there is not enough memory (ulimit -v)\n")
    os._exit(1)


def _end(signum: int, _frame: object) -> None:
    os._exit(130 if signum == signal.SIGINT else 143)


def start() -> None:
    """The console script. Ctrl-C during start-up gives no traceback."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signum = getattr(signal, name, None)
        if signum is not None and signal.getsignal(signum) is not signal.SIG_IGN:  # so that nohup works
            signal.signal(signum, _end)
    try:
        from xnat_ingest.cli import script
    except Exception as error:  # too little memory shows as any of them
        if isinstance(error, ImportError) and "failed to map segment" not in str(error):
            raise
        os.write(2, b"xnat-ingest: cannot start: there is not enough memory (ulimit -v), or its files are damaged\n")
        os._exit(1)
    try:
        script()
    except MemoryError:  # not even enough to tell it in the usual way
        os.write(2, b"xnat-ingest: there is not enough memory; allow more (ulimit -v)\n")
        os._exit(1)


if __name__ == "__main__":
    start()
