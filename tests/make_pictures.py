"""`make pictures`: the README's picture, taken by headless Chromium of the page that a real run wrote."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests import demo

PICTURES = Path(__file__).parent.parent / "docs" / "pictures"


def main() -> int:
    if code := demo.main():
        return code
    PICTURES.mkdir(exist_ok=True)
    page = (demo.HOME / "report-1.html").resolve().as_uri()
    words = ["--headless=new", "--no-sandbox", "--hide-scrollbars", "--window-size=1000,1000"]
    picture = PICTURES / "report.png"
    subprocess.run(["chromium", *words, f"--screenshot={picture}", page], check=True, capture_output=True, timeout=120)
    print(picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
