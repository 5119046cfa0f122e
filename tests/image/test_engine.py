"""The harness itself, with an image that holds next to nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.image.containers import (
    build,
    inspect,
    labels,
    layers,
    own_bytes,
    own_steps,
    run,
    start,
)
from tests.image.engine import Engine, EngineError

pytestmark = pytest.mark.real

LABEL = '[{"name":"it\'s","command-line":"a \\"b\\" $c \\\\d"}]'
PAYLOAD = 200_000
DOCKERFILE = f"""\
ARG BASE_IMAGE=unsaid
FROM ${{BASE_IMAGE}}
ARG WORD=none
RUN echo $WORD > /word && head -c {PAYLOAD} /dev/zero > /payload
ENTRYPOINT ["python"]
"""
# Says that it is ready, waits, and ends with 7 when it is told to.
WAITING = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
print("ready", flush=True)
while True:
    signal.pause()
"""


@pytest.fixture(scope="module")
def tiny(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> str:
    context = tmp_path_factory.mktemp("context")
    (context / "Dockerfile").write_text(DOCKERFILE)
    tag = engine.tag("tiny")
    build(engine, context, tag, engine.base, labels={"said": LABEL}, args={"WORD": "given"})
    return tag


def test_run(engine: Engine, tiny: str) -> None:
    said = "import os, sys; print(os.environ['GREETING']); print('why', file=sys.stderr); sys.exit(3)"
    done = run(engine, tiny, "-c", said, env={"GREETING": "a b=c"}, network="none")
    assert (done.code, done.out, done.err) == (3, "a b=c\n", "why\n")
    assert run(engine, tiny, "-c", "cat /word", entrypoint="/bin/sh").out == "given\n"


def test_mounts_and_users(engine: Engine, tiny: str, tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    target.mkdir(mode=0o777)
    target.chmod(0o777)
    (source / "word").write_text("brought")
    code = "open('/out/copy', 'w').write(open('/in/word').read()); open('/in/no', 'w')"
    done = run(engine, tiny, "-c", code, user="10001:10001", mounts=[f"{source}:/in:ro", f"{target}:/out"])
    assert done.code == 1
    assert "Read-only file system: '/in/no'" in done.err
    assert (target / "copy").read_text() == "brought"
    assert (target / "copy").stat().st_uid == 10001


def test_read_only(engine: Engine, tiny: str) -> None:
    code = "open('/tmp/a', 'w'); open('/a', 'w')"
    done = run(engine, tiny, "-c", code, read_only=True, tmpfs=["/tmp"], extra=["--cap-drop", "ALL"])
    assert (done.code, done.err.splitlines()[-1]) == (1, "OSError: [Errno 30] Read-only file system: '/a'")


def test_stop_and_kill(engine: Engine, tiny: str) -> None:
    for end, code in (("stop", 7), ("kill", 137)):
        running = start(engine, tiny, "-c", WAITING)
        running.until("ready\n")
        if end == "kill":
            running.kill()
        assert (running.wait() if end == "kill" else running.stop(20)) == code
        running.remove()
    assert engine.must("ps", "--all", "--quiet", "--filter", f"label={engine.label}") == ""


def test_what_an_image_says(engine: Engine, tiny: str) -> None:
    assert labels(engine, tiny)["said"] == LABEL
    assert inspect(engine, tiny)["Config"]["Entrypoint"] == ["python"]
    below = layers(engine, engine.base)
    assert layers(engine, tiny)[:-1] == below
    assert "head -c" in " ".join(step for step, _ in own_steps(engine, tiny, engine.base))
    assert PAYLOAD <= own_bytes(engine, tiny, engine.base) < PAYLOAD + 1000


def test_the_base_is_like_the_official_one(engine: Engine, tiny: str, tmp_path: Path) -> None:
    """The program's Dockerfile finds python and pip where it expects them, and pip finds packages."""
    code = "import shutil, sys; print(*map(shutil.which, ('python', 'python3', 'pip')), sys.version_info >= (3, 11))"
    done = run(engine, tiny, "-c", code)
    assert done.out.split() == ["/usr/local/bin/python", "/usr/local/bin/python3", "/usr/local/bin/pip", "True"], (
        done.err
    )
    script = "python -m venv /tmp/v && /tmp/v/bin/pip download --no-deps --dest /tmp/d flit_core==3.12.0 && ls /tmp/d"
    done = run(engine, tiny, "-c", script, entrypoint="/bin/sh")
    assert (done.code, done.out.splitlines()[-1:]) == (0, ["flit_core-3.12.0-py3-none-any.whl"]), done.err


def test_a_build_that_fails_says_why(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN echo because >&2; exit 9\n")
    with pytest.raises(EngineError, match=r"(?s)build.*because.*exit code: 9"):
        build(engine, tmp_path, engine.tag("broken"), engine.base)


def test_the_program_starts(engine: Engine, image: str) -> None:
    done = run(engine, image, "--version", user="10001:10001", network="none", read_only=True)
    assert (done.code, done.err) == (0, "")
    assert layers(engine, image)[:-1] == layers(engine, engine.base)
