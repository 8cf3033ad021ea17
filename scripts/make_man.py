#!/usr/bin/env python3
"""Writes man pages from a program's own pages of help.
Usage: make_man.py PROGRAM FOLDER: FOLDER/NAME.1, and FOLDER/NAME-VERB.1 of each verb (-VERB-VERB of a verb's own)."""
import pathlib
import re
import subprocess
import sys


def help_of(program, *verbs):
    done = subprocess.run([program, *verbs, "--help"], capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else ""


def escape(text):
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + text if text.startswith((".", "'")) else text


def page(name, text):
    """What stands before "Usage:" is the description; each block behind it is a section."""
    head, _, rest = text.partition("Usage:")
    what = " ".join(head.split()).removeprefix(name + ": ") or name
    lines = [f'.TH "{name.upper()}" 1 "" "polyveil" "User Commands"', ".SH NAME", f"{escape(name)} \\- {escape(what)}",
             ".SH SYNOPSIS", escape(rest.partition("\n")[0].strip())]
    for line in rest.partition("\n")[2].splitlines():
        if re.match(r"^\S.*:$", line):
            lines += [f".SH {line[:-1].upper()}"]
        elif match := re.match(r"^  (\S.*?)(?:\s{2,}(.*))?$", line):
            lines += [".TP", f"\\fB{escape(match[1])}\\fR"] + ([escape(match[2])] if match[2] else [])
        elif line.strip():
            lines += [escape(line.strip())]
    return "\n".join(lines) + "\n"


def write_pages(program, folder, path):
    """The page of a verb and those below it. A verb that another program serves has that one's page."""
    name = "-".join([pathlib.Path(program).name, *path])
    text = help_of(program, *path)
    if not text.partition("Usage: ")[2].startswith(" ".join([pathlib.Path(program).name, *path]) + " "):
        return
    (folder / f"{name}.1").write_text(page(name, text))
    for verb in re.findall(r"^  ([a-z-]+)  ", text.partition("Subcommands:")[2], re.M):
        write_pages(program, folder, [*path, verb])


def main():
    folder = pathlib.Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    write_pages(sys.argv[1], folder, [])


main()
