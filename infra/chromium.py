"""The real browser that drawings and pages are tested in: Debian's Chromium, without a window and without a network."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

_FLAGS = [  # as root it has no sandbox; the rest keeps it from looking for its maker's servers
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
]
LONGEST = 120  # seconds for one page: a cold start on a busy machine takes ten


class ChromiumUnavailable(Exception):
    """There is no browser on this machine."""


def program() -> str:
    """The path of the browser. Raises ChromiumUnavailable."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        raise ChromiumUnavailable("chromium is not installed (on Debian: apt-get install chromium)")
    return found


def document_after(page: str, *, width: int, dark: bool = False) -> str:
    """What a page is once its scripts have run, as HTML. `width` of the window, in px. Raises ChromiumUnavailable."""
    return _run(page, ["--dump-dom"], width, dark=dark)


def screenshot(page: str, to: Path, *, width: int, height: int, dark: bool = False) -> None:
    """How a page looks, as a PNG. Raises ChromiumUnavailable."""
    _run(page, [f"--screenshot={to.absolute()}"], width, height, dark=dark)


def _run(page: str, what: list[str], width: int, height: int = 1200, *, dark: bool) -> str:
    scheme = ["--blink-settings=preferredColorScheme=0"] if dark else []
    with tempfile.TemporaryDirectory(prefix="saga-chromium-") as folder:
        file = Path(folder) / "page.html"
        file.write_text(page, encoding="utf-8")
        line = [
            program(),
            *_FLAGS,
            *scheme,
            f"--user-data-dir={folder}/profile",
            f"--window-size={width},{height}",
            *what,
            file.as_uri(),
        ]
        done = subprocess.run(line, capture_output=True, timeout=LONGEST, check=False)
    if done.returncode:
        raise ChromiumUnavailable(f"{line[0]} ended with {done.returncode}: {done.stderr.decode(errors='replace')[-500:]}")
    return done.stdout.decode()
