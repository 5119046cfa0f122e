"""Sends one file by pynetdicom's own association: python -m tests.contract.drive_pynetdicom PORT FILE LIMIT QUEUE

Its timeouts for messages and for the network are LIMIT seconds. QUEUE: how many PDUs may wait, 0 for any number.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pydicom import dcmread
from pynetdicom import AE, _config


def main(port: str, file: str, limit: str, queue: str) -> int:
    _config.STORE_SEND_CHUNKED_DATASET = True
    header = dcmread(file, stop_before_pixels=True)
    entity = AE()
    entity.add_requested_context(header.SOPClassUID, header.file_meta.TransferSyntaxUID)
    association = entity.associate("127.0.0.1", int(port), ae_title="XNAT")
    association.dimse_timeout = association.network_timeout = float(limit)
    association.dul.to_provider_queue.maxsize = int(queue)
    print("established" if association.is_established else "refused", flush=True)
    status = association.send_c_store(Path(file))
    print(f"status {status.get('Status')}", flush=True)
    association.release()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
