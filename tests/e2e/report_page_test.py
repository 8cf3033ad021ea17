#!/usr/bin/env python3
"""A page of --report beside the run's --json: it fetches nothing, runs nothing, names everything that was measured and
nothing that was written; in Chromium, where one is given, in light and dark and on a phone's width.
Usage: report_page_test.py PAGE.html RUN.json [SECRET-TEXT [CHROMIUM [FOLDER-FOR-SCREENSHOTS]]]"""
import html.parser
import json
import pathlib
import re
import sys
import tempfile

PAGE, RUN = pathlib.Path(sys.argv[1]), json.load(open(sys.argv[2], encoding="utf-8"))
SECRET, CHROMIUM, FOLDER = (sys.argv[3:] + ["", "", ""])[:3]


class Reader(html.parser.HTMLParser):
    """Words, tags, and what the attributes could fetch."""

    def __init__(self, text):
        super().__init__()
        self.words, self.tags, self.open = [], [], []
        self.feed(text)
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in ("meta", "link", "line"):
            self.open.append(tag)
        for name, value in attributes:
            assert not name.startswith("on"), f"{tag} {name} runs something"
            if name in ("src", "href", "action", "srcset", "data", "xlink:href"):
                assert value.startswith("data:"), f"{tag} {name} fetches {value}"

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"{tag} ends {self.open}"

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_data(self, data):
        self.words.append(data)


def rows():
    if "latency" in RUN:
        return RUN["latency"]["components"] + RUN["latency"]["primitives"]
    return [row for row in RUN["components"] if row["seconds"] > 0] + RUN["primitives"]


def check_text():
    text = PAGE.read_text(encoding="utf-8")
    assert not re.search(r"https?:|//[a-z]|@import|url\(", text), "an address of somebody else"
    page = Reader(text)
    words = "\n".join(page.words)
    assert "script" not in page.tags and "iframe" not in page.tags
    assert rows(), "nothing was measured"
    for row in rows() + RUN.get("server_memory", []):
        assert row["name"] in words, f"no {row['name']}"
    levels = (RUN.get("model", RUN)).get("estimate", {}).get("levels")
    if levels:
        boots = sum(level[0] == "bootstrap" for level in levels)
        assert text.count('class="boot"') == boots, f"{boots} places of bootstraps"
        assert text.count('class="stage"') == len(levels) - boots
    assert 'class="stage"' in text, "no levels"
    assert not SECRET or SECRET not in text, "a text"
    return words


def check_verdicts(words):
    parts = [RUN.get("tokens")] + [text["tokens"] for text in RUN.get("texts", [])]
    tokens = [token for part in parts if isinstance(part, list) for token in part]
    checked = [token for token in tokens if "within_noise" in token]
    shown = words.count("within the noise") + words.count("beyond the noise")
    assert shown == len(checked) + ("within_noise" in RUN), (shown, len(checked))
    if RUN.get("share_bits", 0) == 0:
        assert "flooded" not in words, "an error of decrypted values"


def check_browser():
    from browser import Browser, check_events, colours, open_url, size
    with tempfile.TemporaryDirectory() as profile:
        browser = Browser(CHROMIUM, profile, FOLDER or profile)
        try:
            url = PAGE.resolve().as_uri()
            open_url(browser, url)
            browser.wait(20, "document.querySelectorAll('svg rect').length > 3", "the page")
            light = colours(browser, "light")
            browser.shot("report-light.png")
            assert colours(browser, "dark") != light, "light and dark look the same"
            browser.shot("report-dark.png")
            size(browser, 360, 780, mobile=True)
            browser.shot("report-phone.png")
            check_events(browser, url)
        finally:
            browser.end()


check_verdicts(check_text())
if CHROMIUM:
    check_browser()
print("ok: the page of a run", "in " + CHROMIUM if CHROMIUM else "")
