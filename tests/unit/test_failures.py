"""What is said of the errors of the HTTP library."""

from __future__ import annotations

import time

import pytest
from urllib3.exceptions import ProtocolError

from xnat_ingest.xnat.failures import failure

SERVER = "https://xnat.test"


@pytest.mark.parametrize(
    "before",
    [
        "",
        "<urllib3.connection.HTTPConnection object at 0x7f0123456789>: ",
        "HTTPSConnection(host='xnat.test', port=443): ",
        "HTTPConnectionPool(host='xnat.test', port=80): ",
    ],
)
def test_the_library_s_objects_are_left_out(before: str) -> None:
    assert str(failure(ProtocolError(f"{before}it broke"), SERVER, None)).endswith(f"{SERVER} broke: it broke")


def test_a_status_line_that_was_made_to_be_slow() -> None:
    """The error of the library repeats it: 64 kB at most."""
    begun = time.process_time()
    assert str(failure(ProtocolError("a" * 65_536), SERVER, None)).endswith("a")
    assert time.process_time() - begun < 2
