"""A real browser for tests, driven through Chromium's own protocol with the standard library alone."""

import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import time

import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--mute-audio",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-pipe",
)  # fmt: skip


class Browser:
    """One headless Chromium with one page. Commands go through a pipe: no port that anybody else could use."""

    def __init__(self, program, folder):
        ours, theirs = [], []
        for mine, yours in ((1, 0), (0, 1)):  # from us to it, from it to us
            pipe = os.pipe()
            ours.append(pipe[mine])
            theirs.append(fcntl.fcntl(pipe[yours], fcntl.F_DUPFD, 10))  # clear of the numbers that Chromium wants
            os.close(pipe[yours])
        self.write, self.read = ours
        self.process = subprocess.Popen(
            [program, *OPTIONS, f"--user-data-dir={folder}", "about:blank"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            close_fds=False, preexec_fn=lambda: (os.dup2(theirs[0], 3), os.dup2(theirs[1], 4)),
        )  # fmt: skip
        for end in theirs:
            os.close(end)
        self.events, self.count, self.rest, self.session = [], 0, b"", None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)

    def call(self, method, seconds=60, **parameters):
        """A command's result."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": parameters}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.write, json.dumps(message).encode() + b"\0")
        answer = self._until(lambda found: found.get("id") == self.count, seconds)
        assert "error" not in answer, answer
        return answer["result"]

    def _until(self, wanted, seconds):
        deadline = time.monotonic() + seconds
        while True:
            while b"\0" not in self.rest:
                left = deadline - time.monotonic()
                assert left > 0, "the browser does not answer"
                if not select.select([self.read], [], [], left)[0]:
                    continue
                more = os.read(self.read, 1 << 20)
                assert more, "the browser has ended"
                self.rest += more
            text, self.rest = self.rest.split(b"\0", 1)
            found = json.loads(text)
            self.events.append(found)
            if wanted(found):
                return found

    def open(self, address, width=390, height=844):
        """Load a page at a size, as a phone does below 500 pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.events.clear()
        self.call("Page.navigate", url=address)
        if not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self._until(lambda found: found.get("method") == "Page.loadEventFired", 60)

    def value(self, expression):
        """What an expression is in the page, as JSON."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def errors(self):
        """What the page's console has complained about since it was opened."""
        found = []
        for event in self.events:
            method, what = event.get("method"), event.get("params", {})
            if method == "Runtime.exceptionThrown" or (
                method == "Runtime.consoleAPICalled" and what["type"] in ("error", "assert")
            ):
                found.append(what)
            elif method == "Log.entryAdded" and what["entry"]["level"] == "error":
                found.append(what["entry"]["text"])
        return found

    def requests(self):
        """The addresses that the page asked for, data of its own left out."""
        sent = [event["params"] for event in self.events if event.get("method") == "Network.requestWillBeSent"]
        return [each["request"]["url"] for each in sent if not each["request"]["url"].startswith("data:")]

    def close(self):
        """End it."""
        with contextlib.suppress(OSError, AssertionError):
            self.session = None
            self.call("Browser.close", seconds=5)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=10)
        self.process.kill()
        self.process.wait()
        for end in (self.write, self.read):
            os.close(end)


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """A headless Chromium; the test is skipped where there is none."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(PROGRAMS)} is on the PATH")
    browser = Browser(program, tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()
