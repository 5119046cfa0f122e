"""`make docs`: the folder that the site is built from: the README as its first page, and the pages beside it.

In the repository the README links to `docs/x.md`, and the pages link to what lies above them; on the site all lie in
one folder.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

ROOT = Path(__file__).parent.parent
STAGE = ROOT / "build" / "pages"
# Files at the top that the site has, too -> what they are called there.
ABOVE = {"README.md": "index.md", **{name: name for name in ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")}}
_LINK = re.compile(r"(?<=\]\()([^)#\s:]+)(?=[)#])")


def main() -> None:
    shutil.rmtree(STAGE, ignore_errors=True)
    shutil.copytree(ROOT / "docs", STAGE)
    shutil.copytree(ROOT / "examples", STAGE / "examples")
    for page in STAGE.glob("*.md"):
        page.write_text(_LINK.sub(lambda found: found[1].removeprefix("../"), page.read_text("utf-8")), "utf-8")
    for source, target in ABOVE.items():
        (STAGE / target).write_text(_from_above((ROOT / source).read_text("utf-8")), "utf-8")


def _from_above(text: str) -> str:
    def moved(found: re.Match[str]) -> str:
        target = found[1].removeprefix("docs/")
        return f"{target}/README.md" if target == "decisions" else ABOVE.get(target, target)

    return _LINK.sub(moved, text)


if __name__ == "__main__":
    main()
