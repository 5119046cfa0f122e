"""What it takes to know a project with many archived sessions: `python -m bench.survey [--sessions 100000]`.

A process of its own answers with a listing as XNAT's; this one asks for it as a run does, once, and tells processor
time and memory.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import time
from pathlib import Path

from bench.scale import resident


def serve(sessions: int) -> None:
    """Answers whatever is asked with a token, or with the listing."""
    rows = [
        {
            "ID": f"XNAT_E{number:06d}",
            "label": f"SUBJ{number // 4:06d}_MR{number % 4}",
            "subject_label": f"SUBJ{number // 4:06d}",
            "xsiType": "xnat:mrSessionData",
            "xnat:imagesessiondata/uid": f"1.2.826.0.1.3680043.8.498.{number:038d}",
            "URI": f"/data/experiments/XNAT_E{number:06d}",
        }
        for number in range(sessions)
    ]
    listing = json.dumps({"ResultSet": {"Result": rows, "totalRecords": str(sessions)}}).encode()
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    while True:
        sock, _ = listener.accept()
        while head := sock.recv(65536):
            is_table = b"/experiments?" in head
            body, kind = (listing, b"application/json") if is_table else (b"0123456789ABCDEF", b"text/plain")
            sock.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n" % (kind, len(body)) + body
            )
        sock.close()


def measure(port: int, sessions: int) -> str:
    from xnat_ingest.delivery.known_sessions import KnownSessions
    from xnat_ingest.settings.layers import Credentials
    from xnat_ingest.xnat.archive import archived_sessions
    from xnat_ingest.xnat.client import XnatClient

    client = XnatClient(Credentials(f"http://127.0.0.1:{port}", "up", "pw"))
    client.login()
    before, begun = resident(), time.process_time()
    known = KnownSessions(archived_sessions(client, "DEMO"), 0.0)
    asked, after = time.process_time() - begun, resident()
    begun = time.process_time()
    for number in range(1000):
        known.matching(f"subj{number:06d}_mr0", "")
    each = (time.process_time() - begun) / 1000
    return (
        f"{sessions:,} archived sessions: {asked:.1f} s of one core and {(after - before) / 1e6:.0f} MB for the "
        f"listing, {each * 1e6:.0f} µs for each session that is looked up"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.survey", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sessions", type=int, default=100_000)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.sessions)
        return 0
    command = [sys.executable, "-m", "bench.survey", "--serve", "--sessions", str(given.sessions)]
    process = subprocess.Popen(command, cwd=Path(__file__).parent.parent, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        print(measure(int(process.stdout.readline()), given.sessions))
    finally:
        process.kill()
        process.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
