#!/usr/bin/env python3
"""The proxy's page in headless Chromium: a chat by keyboard alone, the chart, light and dark, a phone's width; no
request to anyone else, no error in the console; embeddings in place of the chat where an encoder is served. Usage: page_test.py CHROMIUM PROXY-URL FOLDER-FOR-SCREENSHOTS"""
import base64
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

CHROMIUM, PROXY, FOLDER = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])


class Browser:
    """Chromium's debugging protocol over a pair of pipes: messages end with a zero byte."""

    def __init__(self, profile):
        to_browser, self.out = os.pipe()
        self.inp, from_browser = os.pipe()
        os.set_blocking(self.inp, False)
        # The browser expects them as descriptors 3 and 4.
        command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe",
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
        FOLDER.mkdir(parents=True, exist_ok=True)
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        (FOLDER / name).write_bytes(base64.b64decode(data))

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


def open_page(browser):
    target = browser.call("Target.createTarget", url="about:blank")["targetId"]
    browser.session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    for part in ("Page", "Runtime", "Network", "Log"):
        browser.call(part + ".enable")
    size(browser, 1280, 900)
    browser.call("Page.navigate", url=PROXY + "/")
    browser.wait(20, "document.querySelector('#facts dt') !== null", "the page")


def is_encoder(browser):
    return browser.value("document.getElementById('length').hidden")


def check_keyboard(browser):
    """Everything that can be used is reached by Tab, and says that it has the focus."""
    browser.value("document.activeElement.blur()")
    names = []
    for _ in range(6):
        browser.key("Tab", 9)
        names.append(browser.value("document.activeElement.id"))
        if names[-1]:
            assert browser.value("getComputedStyle(document.activeElement).outlineStyle") != "none", names
    for name in ("words", "anew", "send", "seen") + (() if is_encoder(browser) else ("tokens",)):
        assert name in names, (name, names)


def check_chat(browser):
    browser.value("document.getElementById('words').focus()")
    browser.call("Input.insertText", text="once")
    browser.key("Enter", 13, "\r")
    browser.wait(10, "document.querySelectorAll('#turns li').length === 2", "turns")
    browser.wait(60, "document.querySelector('#turns li.assistant:not(.busy)') !== null", "an answer")
    assert browser.value("document.querySelector('#turns li.assistant').textContent.length") > 0
    browser.wait(10, "document.querySelectorAll('#chart .bar > div').length > 3", "the chart")
    assert browser.value("document.querySelectorAll('#legend li').length") > 2
    assert browser.value("document.getElementById('seen').textContent").startswith("50 4f 4c 59")  # POLYVEIL
    colours_of_parts = "Object.fromEntries([...document.querySelectorAll('#legend li')].map(" \
        "(row) => [row.textContent.replace(/ \\d+%$/, ''), row.firstChild.style.background]))"
    before = browser.value(colours_of_parts)
    # Escape ends a long text, and the page goes on. A new text: the first one's random tokens may fill the context.
    browser.value("document.getElementById('anew').click()")
    browser.value("document.getElementById('words').focus()")
    browser.value("document.getElementById('tokens').value = 40")
    browser.call("Input.insertText", text="a time")
    browser.key("Enter", 13, "\r")
    browser.wait(10, "document.querySelector('#turns li.busy') !== null", "a second text")
    browser.shot("page-generates.png")
    browser.key("Escape", 27)
    browser.wait(10, "document.querySelector('#turns li.busy') === null", "the end of a stopped text")
    after = browser.value(colours_of_parts)
    for name in (before.keys() & after.keys()) - {"others"}:
        assert before[name] == after[name], f"{name} has changed its colour: {before} {after}"


def check_embeddings(browser):
    """An encoder's page: a text a line, a row a text."""
    browser.value("document.getElementById('words').focus()")
    browser.call("Input.insertText", text="once\nonce\nupon")
    browser.key("Enter", 13, "\r")
    browser.wait(60, "document.querySelectorAll('#turns tbody tr').length === 3", "a table")
    cosines = browser.value("[...document.querySelectorAll('#turns tbody td:nth-child(2)')].map((cell) => Number(cell.textContent))")
    assert cosines[0] == 1 and cosines[1] > 0.999 and cosines[2] < 1, cosines
    browser.wait(10, "document.querySelectorAll('#chart .bar > div').length > 3", "the chart")
    assert browser.value("document.getElementById('seen').textContent").startswith("50 4f 4c 59")  # POLYVEIL


def check_refusal(browser):
    """Nothing is lost of what cannot be embedded."""
    browser.value("document.getElementById('words').focus()")
    browser.call("Input.insertText", text="x" * 60)
    browser.key("Enter", 13, "\r")
    browser.wait(10, "document.getElementById('trouble').textContent.includes('62 tokens')", "a refusal")
    assert browser.value("document.getElementById('words').value") == "x" * 60


def check_events(browser):
    for event in browser.events:
        method, parameters = event.get("method"), event.get("params", {})
        if method == "Network.requestWillBeSent":
            url = parameters["request"]["url"]
            assert url.startswith((PROXY, "data:", "about:")), f"a request to {url}"
        assert method not in ("Runtime.exceptionThrown",), parameters
        if method == "Log.entryAdded":
            assert parameters["entry"]["level"] != "error", parameters
        if method == "Runtime.consoleAPICalled":
            assert parameters["type"] != "error", parameters


def main():
    with tempfile.TemporaryDirectory() as profile:
        browser = Browser(profile)
        try:
            open_page(browser)
            light = colours(browser, "light")
            check_keyboard(browser)
            kind = "encoder" if is_encoder(browser) else "page"
            (check_embeddings if kind == "encoder" else check_chat)(browser)
            browser.shot(kind + "-light.png")
            assert colours(browser, "dark") != light, "light and dark look the same"
            browser.shot(kind + "-dark.png")
            size(browser, 360, 780, mobile=True)
            browser.shot(kind + "-phone.png")
            check_events(browser)
            if kind == "encoder":
                check_refusal(browser)
        finally:
            browser.end()
    print("ok: the page in", CHROMIUM)


main()
