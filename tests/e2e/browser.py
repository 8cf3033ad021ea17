"""Headless Chromium for tests of pages: it loads, looks, types, and says what was asked of the network."""
import base64
import json
import os
import pathlib
import subprocess
import time


class Browser:
    """Chromium's debugging protocol over a pair of pipes: messages end with a zero byte."""

    def __init__(self, chromium, profile, folder):
        """folder: for screenshots."""
        self.folder = pathlib.Path(folder)
        to_browser, self.out = os.pipe()
        self.inp, from_browser = os.pipe()
        os.set_blocking(self.inp, False)
        # The browser expects them as descriptors 3 and 4.
        command = [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe",
                   "--disable-background-networking", "--no-first-run", f"--user-data-dir={profile}", "about:blank"]
        self.process = subprocess.Popen(["bash", "-c", f'exec 3<&{to_browser} 4>&{from_browser} "$@"', "-", *command],
                                        pass_fds=[to_browser, from_browser], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        os.close(to_browser)
        os.close(from_browser)
        self.pending, self.events, self.number, self.session = b"", [], 0, None

    def read(self, seconds):
        """One message, or None."""
        until = time.monotonic() + seconds
        while b"\0" not in self.pending:
            try:
                more = os.read(self.inp, 1 << 20)
                if not more:
                    raise RuntimeError("the browser has ended")
                self.pending += more
            except BlockingIOError:
                if time.monotonic() > until:
                    return None
                time.sleep(0.01)
        text, self.pending = self.pending.split(b"\0", 1)
        return json.loads(text)

    def call(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.read(30)
            assert answer is not None, f"{method}: no answer"
            if answer.get("id") == self.number:
                assert "error" not in answer, (method, answer)
                return answer["result"]
            self.events.append(answer)

    def wait(self, seconds, script, what):
        until = time.monotonic() + seconds
        while not self.value(script):
            assert time.monotonic() < until, f"{what}: {self.value('document.body.innerText')}"
            time.sleep(0.05)

    def value(self, script):
        return self.call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def key(self, name, code=0, text=""):
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code, **({"text": text} if text and kind == "keyDown" else {}))

    def shot(self, name):
        self.folder.mkdir(parents=True, exist_ok=True)
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        (self.folder / name).write_bytes(base64.b64decode(data))

    def end(self):
        os.close(self.out)
        self.process.wait(20)


def size(browser, width, height, mobile=False):
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
    time.sleep(0.3)
    seen = browser.value("[document.documentElement.scrollWidth, innerWidth]")
    assert seen[0] <= seen[1], f"at {width} pixels the page is {seen[0]} wide"


def colours(browser, scheme):
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    return browser.value("getComputedStyle(document.body).backgroundColor")


def open_url(browser, url):
    target = browser.call("Target.createTarget", url="about:blank")["targetId"]
    browser.session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    for part in ("Page", "Runtime", "Network", "Log"):
        browser.call(part + ".enable")
    size(browser, 1280, 900)
    browser.call("Page.navigate", url=url)


def check_events(browser, own):
    """No request but to `own` addresses, no error."""
    for event in browser.events:
        method, parameters = event.get("method"), event.get("params", {})
        if method == "Network.requestWillBeSent":
            url = parameters["request"]["url"]
            assert url.startswith((own, "data:", "about:")), f"a request to {url}"
        assert method not in ("Runtime.exceptionThrown",), parameters
        if method == "Log.entryAdded":
            assert parameters["entry"]["level"] != "error", parameters
        if method == "Runtime.consoleAPICalled":
            assert parameters["type"] != "error", parameters
