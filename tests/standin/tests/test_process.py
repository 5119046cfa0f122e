"""The stand-in as a process, and its rule of not knowing the product."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.standin.samples import Client, series

HERE = Path(__file__).parent.parent.parent


@pytest.mark.wide
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_listens_and_ends_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "tests.standin", "--root", str(tmp_path), "--port", "0"]
    command += ["--project", "DEMO:4", "--project", "HAND:0", "--user", "uploader"]
    environment = os.environ | {"STANDIN_PASS": "secret"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True, cwd=HERE.parent) as process:
        assert process.stdout is not None
        word, url = process.stdout.readline().split()
        assert (word, url.rsplit(":", 1)[0]) == ("listening", "http://127.0.0.1")
        client = Client(url).login()
        uri = client.send(series([1])).text.strip()
        assert client("POST", uri, action="commit").status == 301
        assert client("GET", "/data/projects/HAND/prearchive_code").text == "0"
        client.close()
        process.send_signal(number)
        assert process.wait(10) == 0


@pytest.mark.wide
def test_it_imports_nothing_of_the_product() -> None:
    for path in (HERE / "standin").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not [name for name in names if name.split(".")[0] == "xnat_ingest"], path
