"""The ways of sending that the tests go through are all that there are."""

from __future__ import annotations

from tests.transport_flags import TRANSPORT_FLAGS
from xnat_ingest.settings.options import TABLE, OneOf
from xnat_ingest.transports import TRANSPORTS


def test_every_transport_is_tested() -> None:
    tested = {flags[flags.index("--transport") + 1] for flags in TRANSPORT_FLAGS.values() if "--transport" in flags}
    assert tested | {"archive"} == set(TRANSPORTS), "give each transport a line in tests/transport_flags.py"


def test_every_archive_format_is_tested() -> None:
    formats = TABLE["archive_format"].parse
    assert isinstance(formats, OneOf)
    tested = {flags[1] for flags in TRANSPORT_FLAGS.values() if flags[0] == "--archive-format"}
    assert tested | {"auto"} == set(formats)
