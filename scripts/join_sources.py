#!/usr/bin/env python3
"""Writes a compile database of a few units that include every source but the trainer's and Python's.

    scripts/join_sources.py BUILD

BUILD is a configured build folder with a compile database; the units and theirs go to BUILD/joined. A checker
spends most of its time on the headers of others (standard library, Boost, JSON), once a unit: few units cost a
fraction of many. Sources of one unit share their names, so those in unnamed namespaces differ.
"""

import json
import pathlib
import re
import shlex
import subprocess
import sys

# A source is in the first unit that names the beginning of its path. Units of about one cost, the dearest first.
UNITS = {
    "serve": "src/serve/|src/api/|tests/e2e/|tests/support/|tests/fuzz/(?!released)",
    "model": "src/(approx|model|compile|runtime|eval)/|tests/fuzz/released",
    "programs": "tools/|examples/",
    "engine": "",
}
LEFT_OUT = r"src/train/|bindings/|tools/train_main\.cc|tests/e2e/trained_form_test\.cc"


def shared_options(commands):
    """What any command defines, includes or warns of; of a macro's values the first."""
    kept = {}
    for words in commands:
        for word, following in zip(words, words[1:]):
            if word == "-isystem":
                kept[word + following] = [word, following]
            elif re.match("-[DIW]|-std=", word):
                kept.setdefault(word.split("=")[0] if word.startswith("-D") else word, [word])
    return sum(kept.values(), [])


def joined(paths):
    """The text of a unit; programs' main functions get a name each."""
    return "".join(f'#define main main_{i}\n#include "{path}"\n#undef main\n' for i, path in enumerate(paths))


def sources(root):
    """Every source's path below root, but those left out."""
    listed = subprocess.check_output(["git", "ls-files", "*.cc"], cwd=root, text=True).split()
    return [name for name in listed if not re.match(LEFT_OUT, name)]


def main():
    build = pathlib.Path(sys.argv[1]).resolve()
    root = pathlib.Path(__file__).resolve().parent.parent
    database = json.loads((build / "compile_commands.json").read_text())
    commands = {entry["file"]: shlex.split(entry["command"]) for entry in database}
    units = {unit: ([], []) for unit in UNITS}  # sources, options of their own
    for name in sources(root):
        unit = next(unit for unit, paths in UNITS.items() if re.match(paths, name))
        # Vector kernels (-mavx2) stay alone: each machine's define the same names.
        machine = [word for word in commands.get(str(root / name), []) if word.startswith("-m")]
        if machine:
            unit = pathlib.Path(name).stem
        units.setdefault(unit, ([], machine))[0].append(root / name)

    folder = build / "joined"
    folder.mkdir(exist_ok=True)
    options = shared_options(commands.values())
    entries = []
    for unit, (paths, machine) in units.items():
        file = folder / f"{unit}.cc"
        file.write_text(joined(paths))
        arguments = ["clang++", *options, *machine, "-c", str(file)]
        entries.append({"directory": str(build), "file": str(file), "arguments": arguments})
    (folder / "compile_commands.json").write_text(json.dumps(entries, indent=1))


if __name__ == "__main__":
    main()
