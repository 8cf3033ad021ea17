#!/usr/bin/env python3
"""Writes man pages from a program's own pages of help.
Usage: make_man.py PROGRAM FOLDER: FOLDER/NAME.1, and FOLDER/NAME-VERB.1 of each verb."""
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


def main():
    program, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    name = pathlib.Path(program).name
    folder.mkdir(parents=True, exist_ok=True)
    whole = help_of(program)
    (folder / f"{name}.1").write_text(page(name, whole))
    for verb in re.findall(r"^  ([a-z-]+)  ", whole.partition("Subcommands:")[2], re.M):
        text = help_of(program, verb)
        if text and text != whole:
            (folder / f"{name}-{verb}.1").write_text(page(f"{name}-{verb}", text))


main()
