#!/usr/bin/env python3
"""The proxy's page in headless Chromium: a chat by keyboard alone, the chart, light and dark, a phone's width; no
request to anyone else, no error in the console. Usage: page_test.py CHROMIUM PROXY-URL FOLDER-FOR-SCREENSHOTS"""
import sys
import tempfile

from browser import Browser, check_events, colours, open_url, size

CHROMIUM, PROXY = sys.argv[1:3]


def open_page(browser):
    open_url(browser, PROXY + "/")
    browser.wait(20, "document.querySelector('#facts dt') !== null", "the page")


def check_keyboard(browser):
    """Everything that can be used is reached by Tab, and says that it has the focus."""
    browser.value("document.activeElement.blur()")
    names = []
    for _ in range(6):
        browser.key("Tab", 9)
        names.append(browser.value("document.activeElement.id"))
        if names[-1]:
            assert browser.value("getComputedStyle(document.activeElement).outlineStyle") != "none", names
    for name in ("words", "tokens", "anew", "send", "seen"):
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


def main():
    with tempfile.TemporaryDirectory() as profile:
        browser = Browser(CHROMIUM, profile, sys.argv[3])
        try:
            open_page(browser)
            light = colours(browser, "light")
            check_keyboard(browser)
            check_chat(browser)
            browser.shot("page-light.png")
            assert colours(browser, "dark") != light, "light and dark look the same"
            browser.shot("page-dark.png")
            size(browser, 360, 780, mobile=True)
            browser.shot("page-phone.png")
            check_events(browser, PROXY)
        finally:
            browser.end()
    print("ok: the page in", CHROMIUM)


main()
