"""A real browser over JupyterLab: the notebook is run, the trigger's handle moved by keyboard, the picture changes.

Chromium is driven over its DevTools protocol with what JupyterLab itself depends on. Screenshots stay in pytest's
temporary folder.
"""

import base64
import contextlib
import json
import os
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from urllib.request import urlopen

import pytest

REPOSITORY = Path(__file__).parents[3]
TINY = str(REPOSITORY / "tests" / "profiles" / "tiny.toml")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MOVES, LIMIT_MS = 7, 300
pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(600),
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH"),
]

# What is asked of the page, where JupyterLab shows its parts under this name.
OPENED = "[...jupyterapp.shell.widgets('main')].find(panel => panel.content?.model?.cells?.length > 5)"
RUN = f"""(async () => {{
  const panel = {OPENED};
  jupyterapp.shell.activateById(panel.id);
  await panel.context.ready; await panel.sessionContext.ready;
  return await jupyterapp.commands.execute('notebook:run-all-cells');
}})()"""
OUTCOME = f"""(() => {{
  const cells = {OPENED}.content.model.cells, all = [...Array(cells.length).keys()];
  const code = all.map(i => cells.get(i)).filter(cell => cell.type === 'code');
  const errors = code.flatMap(cell => cell.outputs.toJSON()).filter(output => output.output_type === 'error');
  return {{run: code.every(cell => cell.executionCount), errors: errors.map(error => error.evalue)}};
}})()"""
SHOW_PANEL = f"""(async () => {{
  const content = {OPENED}.content;
  const index = content.widgets.findIndex(cell => cell.model.sharedModel.getSource().endsWith('Panel(explorer)'));
  await content.scrollToItem(index, 'start');
  return index;
}})()"""
FOCUS = """(() => {
  const handle = document.querySelector('.explore-column .noUi-handle');
  handle.focus();
  return [document.activeElement === handle, document.querySelector('.explore-column .widget-readout').innerText];
})()"""
# From the key to the frame after both pictures that a move must change are decoded, in milliseconds.
WATCH = """window.repainted = new Promise(resolve => {
  let began; const left = new Set(['image', 'attention']);
  window.addEventListener('keydown', () => { began = performance.now(); }, {capture: true, once: true});
  const painted = () => requestAnimationFrame(() => requestAnimationFrame(() => resolve(performance.now() - began)));
  for (const name of [...left]) document.querySelector('.explore-picture-' + name).addEventListener(
    'load', () => { left.delete(name); if (!left.size) painted(); }, {once: true});
}); true"""
SOURCE = "document.querySelector('.explore-picture-image')?.src"


class Page:
    """The first page of a Chromium, over the DevTools protocol."""

    def __init__(self, port):
        import websocket

        pages = json.load(urlopen(f"http://127.0.0.1:{port}/json/list"))
        address = next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")
        self.socket = websocket.create_connection(address, timeout=120)
        self.sent, self.complaints = 0, []
        for domain in ("Page", "Runtime"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)

    def call(self, method, **parameters):
        """Send a command; gives its result."""
        self.sent += 1
        self.socket.send(json.dumps({"id": self.sent, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("method") == "Runtime.exceptionThrown":
                self.complaints.append(message["params"]["exceptionDetails"])
            if message.get("id") == self.sent:
                assert "error" not in message, message
                return message["result"]

    def evaluate(self, expression):
        """The value of an expression, or of its promise."""
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, expression, seconds):
        """Wait until an expression is true; gives its value."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(AssertionError):  # what it asks about is not there yet
                value = self.evaluate(expression)
                if value:
                    return value
            time.sleep(0.2)
        raise TimeoutError(f"{expression} was not true within {seconds} s")

    def press(self, key, code):
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def screenshot(self, path):
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))


@contextlib.contextmanager
def process(command, log, **options):
    """A process that ends with the block."""
    with open(log, "wb") as file:
        started = subprocess.Popen(command, stdout=file, stderr=file, **options)
    try:
        yield started
    finally:
        started.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            started.wait(20)
        started.kill()
        started.wait()


@pytest.fixture
def folder(tmp_path, enter_repository):
    """A repository with the notebook, set to the tiny profile, and the encoders that it needs."""
    from distill_lib.study.session import open_study

    enter_repository(tmp_path)
    text = (REPOSITORY / "notebooks" / "09_explore.ipynb").read_text(encoding="utf-8")
    notebook = json.loads(text)
    cell = next(cell for cell in notebook["cells"] if "parameters" in cell["metadata"].get("tags", []))
    cell["source"] = "".join(cell["source"]).replace('"quick"', json.dumps(TINY))
    (tmp_path / "notebooks" / "09_explore.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    study = open_study(TINY)
    attacked = study.attacked("patterns", 0)
    for made in (replace(attacked, stage="clean"), attacked, *study.recipe([attacked])):
        study.artefact(made)
    return tmp_path


@pytest.fixture
def lab(folder):
    """JupyterLab on that repository, with no settings of the user's; gives the notebook's address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    places = ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")
    own = {name: str(folder / "jupyter" / name.lower()) for name in (*places, "IPYTHONDIR")}
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--LabApp.expose_app_in_browser=True"),
        *(f"--ServerApp.port={port}", "--ServerApp.ip=127.0.0.1", f"--IdentityProvider.token={token}"),
        *(f"--ServerApp.root_dir={folder}", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"),
    ]
    environment = {**os.environ, **own, "PYTHONPATH": str(REPOSITORY), "DISTILL_WORKERS": "1"}
    with process(command, folder / "lab.log", env=environment, cwd=folder) as server:
        deadline = time.monotonic() + 120
        while True:
            assert server.poll() is None, (folder / "lab.log").read_text()
            assert time.monotonic() < deadline
            with contextlib.suppress(OSError), urlopen(f"http://127.0.0.1:{port}/api/status?token={token}"):
                break
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/lab/tree/notebooks/09_explore.ipynb?token={token}"


@pytest.fixture
def page(tmp_path):
    """A page of a headless Chromium without a history."""
    home = tmp_path / "chromium"
    command = [
        *(CHROMIUM, "--headless=new", "--remote-debugging-port=0", "--remote-allow-origins=*", "--no-first-run"),
        *("--disable-gpu", "--disable-dev-shm-usage", "--window-size=1500,1300", f"--user-data-dir={home}"),
        *(["--no-sandbox"] if os.geteuid() == 0 else []),
        "about:blank",
    ]
    with process(command, tmp_path / "chromium.log") as browser:
        deadline, file = time.monotonic() + 60, home / "DevToolsActivePort"
        while not (file.is_file() and "\n" in file.read_text()):
            assert browser.poll() is None, (tmp_path / "chromium.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield Page(int(file.read_text().split()[0]))


def test_the_trigger_is_moved_by_keyboard_and_the_picture_follows(lab, page, tmp_path):
    page.call("Page.navigate", url=lab)
    page.until(f"Boolean({OPENED})", 120)
    assert page.evaluate(RUN)
    outcome = page.until(f"((found) => found.run && found)({OUTCOME})", 180)
    assert outcome["errors"] == []

    page.evaluate(SHOW_PANEL)
    before = page.until(f"((source) => source?.startsWith('blob:') && source)({SOURCE})", 60)
    focused, place = page.until(FOCUS, 20)
    assert focused
    assert place == "21"
    page.screenshot(tmp_path / "before.png")

    elapsed = []
    for _ in range(MOVES):
        assert page.evaluate(WATCH)
        page.press("ArrowLeft", 37)
        elapsed.append(page.evaluate("repainted"))
        assert page.evaluate(SOURCE) != before
        before = page.evaluate(SOURCE)
    assert page.evaluate(FOCUS)[1] == str(21 - MOVES)
    page.screenshot(tmp_path / "after.png")
    assert (tmp_path / "before.png").read_bytes() != (tmp_path / "after.png").read_bytes()
    took = ", ".join(f"{ms:.0f}" for ms in elapsed)
    print(f"from the handle to the repaint: {took} ms; see {tmp_path / 'after.png'}")
    assert page.complaints == []
    assert statistics.median(elapsed) < LIMIT_MS
