"""A page in a real headless browser, where there is one."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


def browse(html: Path, script: str, *options: str) -> tuple[str, str]:
    """What a script, run in the page, leaves as its title, and what the browser says."""
    assert BROWSER is not None
    told = html.with_name("told.html")
    told.write_text(
        html.read_text().replace("</body>", f"<script>document.title = {script};</script></body>")
    )
    done = subprocess.run(
        [
            *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"),
            *("--log-level=0", f"--user-data-dir={html.parent / 'profile'}", *options),
            *("--dump-dom", told.as_uri()),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    title = re.search(r"<title>(.*?)</title>", done.stdout, re.S)
    assert title is not None
    return title[1], done.stderr


needs_browser = pytest.mark.skipif(
    BROWSER is None, reason="no chromium or google-chrome (apt-get install chromium)"
)
