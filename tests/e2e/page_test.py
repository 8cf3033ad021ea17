#!/usr/bin/env python3
"""The proxy's page in headless Chromium: a chat by keyboard alone, the chart, light and dark, a phone's width; no
request to anyone else, no error in the console; embeddings in place of the chat where an encoder is served. Usage: page_test.py CHROMIUM PROXY-URL FOLDER-FOR-SCREENSHOTS"""
import sys
import tempfile

from browser import Browser, check_events, colours, open_url, size

CHROMIUM, PROXY = sys.argv[1:3]


def open_page(browser):
    open_url(browser, PROXY + "/")
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


def main():
    with tempfile.TemporaryDirectory() as profile:
        browser = Browser(CHROMIUM, profile, sys.argv[3])
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
            check_events(browser, PROXY)
            if kind == "encoder":
                check_refusal(browser)
        finally:
            browser.end()
    print("ok: the page in", CHROMIUM)


main()
