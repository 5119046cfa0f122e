"""What `xnat-ingest resource put` stored, read back by xnatpy."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.conftest import PASSWORD
from tests.real.clients import Client
from tests.standin import StandIn
from tests.standin.samples import Client as Raw
from xnat_ingest.commands.resources import files as resourcefiles
from xnat_ingest.commands.resources import put as resources
from xnat_ingest.settings.layers import Credentials
from xnat_ingest.xnat.client import XnatClient
from xnat_ingest.xnat.retry_policy import RetryPolicy

pytestmark = pytest.mark.real
pytest_plugins = ("tests.real.schemas",)
NAMES = ("a.txt", "d/b.txt", "d/two words.txt", "d/.hidden", "x" * 120)


@pytest.mark.usefixtures("schemas")
@pytest.mark.parametrize("names", [NAMES, NAMES[:1]], ids=["archive", "file"])
def test_read_back(
    client: Callable[[str], Client], site: StandIn, login: dict[str, str], tmp_path: Path, names: tuple[str, ...]
) -> None:
    session = "/data/projects/DEMO/subjects/S1/experiments/E1"
    raw = Raw(site.url, user="up", password=PASSWORD).login()
    assert raw("PUT", session, xsiType="xnat:mrSessionData").status == 201
    assert raw("PUT", session + "/scans/3", xsiType="xnat:mrScanData", type="T1").status == 200
    for name in names:
        path = tmp_path / "results" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    found = resourcefiles.gather([str(tmp_path / "results")])
    rest = XnatClient(Credentials(site.url, "up", PASSWORD))
    sent = resources.send(
        rest,
        session + "/scans/3",
        "NOTES",
        found.files,
        overwrite=False,
        retry_policy=RetryPolicy(),
        check_stop=lambda: None,
    )
    rest.close()
    assert sent.sent == set(names)
    (tmp_path / "down").mkdir()
    read = client("xnatpy").drive("drive_xnatpy.py", "resource", **login, project="DEMO", folder=str(tmp_path / "down"))
    # xnatpy takes a name as it stands in the address.
    assert {unquote(path): told for path, told in read["files"].items()} == {
        name: [name, hashlib.md5(name.encode()).hexdigest()] for name in names
    }
