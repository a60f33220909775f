"""Start a JupyterLab and a headless Chromium that opens it, for tests and measurements."""

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from store_notebook import METADATA

CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# As in the Makefile, so that what is tested is what `make lab` starts.
LAB_FLAGS = [
    f"--LabApp.app_settings_dir={Path(__file__).parent / 'jupyterlab'}",
    "--ContentsManager.pre_save_hook=muon_lab.my_course.drop_dead_views",
]
NO_CHROMIUM = (
    "No Chromium was found. Install one (Debian and Ubuntu: sudo apt install chromium; macOS: "
    "brew install --cask chromium), or set the variable CHROMIUM to the path of yours."
)
EXPLORER = ".muon-explorer"
READY_MS = 60_000


def find_chromium() -> str | None:
    """Return the path of this machine's Chromium or Chrome, None if there is none."""
    named = os.environ.get("CHROMIUM")
    names = [named] if named else ["chromium", "chromium-browser", "google-chrome", "chrome"]
    found = [path for name in names if (path := shutil.which(name))]
    on_macs = Path("/Applications/Chromium.app/Contents/MacOS/Chromium")
    return found[0] if found else (str(on_macs) if on_macs.exists() else None)


needs_chromium = pytest.mark.skipif(
    find_chromium() is None and not os.environ.get("CI"), reason=NO_CHROMIUM
)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Run a headless Chromium inside the block."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@contextlib.contextmanager
def quiet_page(browser, **options):
    """Open a page; when the block ends, assert that its console showed no error."""
    context = browser.new_context(**{"viewport": {"width": 1400, "height": 1000}, **options})
    page = context.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda entry: entry.type == "error" and errors.append(entry.text))
    yield page
    context.close()
    assert errors == []


class Lab:
    """A running JupyterLab: the folder that it serves, its port and its token."""

    def __init__(self, folder: Path, port: int, token: str):
        self.folder, self.port, self.token = folder, port, token

    def url(self, notebook: str) -> str:
        """Return the address that opens one notebook in a new workspace."""
        workspace = f"http://127.0.0.1:{self.port}/lab/workspaces/{secrets.token_hex(4)}"
        return f"{workspace}/tree/{notebook}?token={self.token}"

    def request(self, path: str, method: str = "GET"):
        """Call the server's REST interface; return the decoded JSON of its reply."""
        address = f"http://127.0.0.1:{self.port}/api/{path}"
        headers = {"Authorization": f"token {self.token}"}
        request = urllib.request.Request(address, method=method, headers=headers)
        with urllib.request.urlopen(request, timeout=10) as reply:
            text = reply.read()
        return json.loads(text) if text else None

    def end_kernels(self) -> None:
        """End every session and its kernel."""
        for session in self.request("sessions"):
            self.request(f"sessions/{session['id']}", "DELETE")


def _environment(folder: Path, theme: str) -> dict[str, str]:
    """Return environment variables with which Jupyter reads no settings of this user."""
    own = {f"JUPYTER_{name}_DIR": str(folder / name) for name in ("CONFIG", "DATA", "RUNTIME")}
    settings = folder / "lab-settings"
    themes = settings / "@jupyterlab" / "apputils-extension"
    themes.mkdir(parents=True)
    (themes / "themes.jupyterlab-settings").write_text(json.dumps({"theme": theme}))
    own |= {"JUPYTERLAB_SETTINGS_DIR": str(settings), "IPYTHONDIR": str(folder / "ipython")}
    return os.environ | own | {"JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces")}


@contextlib.contextmanager
def jupyterlab(folder: Path, settings: Path, theme: str = "JupyterLab Light") -> Iterator[Lab]:
    """Serve ``folder`` on a free loopback port, with a token, inside the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    lab = Lab(folder, port, secrets.token_hex(16))
    command = [sys.executable, "-m", "jupyterlab", "--ip=127.0.0.1", f"--port={port}", *LAB_FLAGS]
    command += ["--no-browser", "--allow-root", "--ServerApp.port_retries=0"]
    command += [f"--IdentityProvider.token={lab.token}", f"--ServerApp.root_dir={folder}"]
    environment = _environment(settings, theme)
    with open(settings / "server.log", "wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        _wait_for(lab, server, settings / "server.log")
        yield lab
        lab.end_kernels()
    finally:
        server.terminate()
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            server.kill()


def _wait_for(lab: Lab, server: subprocess.Popen, log: Path, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and server.poll() is None:
        with contextlib.suppress(OSError):
            lab.request("status")
            return
        time.sleep(0.1)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-2000:]}")


def write_notebook(path: Path, *cells: str) -> Path:
    """Write a notebook of code cells without running it."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata = nbformat.from_dict(METADATA)
    nbformat.write(notebook, path)
    return path


def open_notebook(page: Page, lab: Lab, name: str) -> None:
    """Open a notebook and wait until its cells are shown."""
    page.goto(lab.url(name))
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=READY_MS)


def wait_for_kernel(page: Page, lab: Lab, patience: float = 20.0) -> None:
    """Wait until the page's kernel is idle.

    JupyterLab shows "idle" before there is a kernel, so this asks the server. The server sometimes
    misses a kernel's first message and reports "starting" for ever, so after ``patience`` seconds a
    connection is enough.
    """
    began = time.monotonic()
    while time.monotonic() < began + READY_MS / 1000:
        late = time.monotonic() > began + patience
        for session in lab.request("sessions"):
            kernel = session["kernel"]
            if kernel["connections"] and (late or kernel["execution_state"] == "idle"):
                return
        page.wait_for_timeout(100)
    raise TimeoutError(f"no kernel after {READY_MS / 1000:g} s")


def run_all(page: Page, lab: Lab) -> None:
    """Run every cell, as soon as there is a kernel."""
    wait_for_kernel(page, lab)
    page.get_by_role("menuitem", name="Run", exact=True).first.click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()


def run_last_cell(page: Page) -> str:
    """Run the last cell; return what it prints."""
    cell = page.locator(".jp-Notebook .jp-CodeCell").last
    before = cell.locator(".jp-InputPrompt").inner_text()
    cell.locator(".cm-content").click()
    page.keyboard.press("Control+Enter")
    page.wait_for_function(
        "([cell, before]) => /\\d/.test(cell.innerText) && cell.innerText !== before",
        arg=[cell.locator(".jp-InputPrompt").element_handle(), before],
        timeout=READY_MS,
    )
    return cell.locator(".jp-OutputArea-output").last.inner_text()
