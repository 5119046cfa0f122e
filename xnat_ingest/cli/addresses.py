"""Threads where a process may have few addresses: below `ulimit -v`, or `h_vmem` of a cluster."""

from __future__ import annotations

import sys
import threading
from contextlib import suppress

# What the stack of a thread reserves. The default is 8 MB.
_STACK = 2 * 1024**2
# The option of mallopt() that limits the number of heaps.
_ARENA_MAX = -8


def save_addresses() -> None:
    """What threads reserve, and never use, counts where addresses are limited.

    The GNU C library reserves a heap of 64 MB for each thread, so three of them would fill 256 MB. Below a limit all
    threads share one heap. Only one of them runs Python at a time, so that costs nothing.
    """
    threading.stack_size(_STACK)
    if sys.platform == "linux" and _are_limited():
        with suppress(ImportError, OSError, AttributeError):  # other C libraries have no such heaps
            import ctypes

            ctypes.CDLL(None).mallopt(_ARENA_MAX, 1)


def _are_limited() -> bool:
    import resource

    return resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY
