#!/usr/bin/env python3
"""Writes a compile database of a few units that include every source but the trainer's and Python's.

    scripts/join_sources.py BUILD

BUILD is a configured build folder with a compile database; the units and theirs go to BUILD/joined, and the
units' paths to standard output, the dearest first. A checker spends most of its time on the headers of others
(standard library, Boost, JSON), once a unit: few units cost a fraction of many. Sources of a unit share their
names, so those in unnamed namespaces differ. Only sources that git knows are in them.
"""

import json
import pathlib
import re
import shlex
import subprocess
import sys

# A source is in the first unit that names the beginning of its path.
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


def units_of(root, commands):
    """The sources of each unit and the options that the unit has for itself."""
    units = {unit: ([], []) for unit in UNITS}
    for name in subprocess.check_output(["git", "ls-files", "*.cc"], cwd=root, text=True).split():
        if re.match(LEFT_OUT, name):
            continue
        unit = next(unit for unit, paths in UNITS.items() if re.match(paths, name))
        # Vector kernels (-mavx2) stay alone: those of each machine define the same names.
        machine = [word for word in commands.get(str(root / name), []) if word.startswith("-m")]
        units.setdefault(pathlib.Path(name).stem if machine else unit, ([], machine))[0].append(root / name)
    return units


def main():
    build = pathlib.Path(sys.argv[1]).resolve()
    database = json.loads((build / "compile_commands.json").read_text())
    commands = {entry["file"]: shlex.split(entry["command"]) for entry in database}
    shared = shared_options(commands.values())
    folder = build / "joined"
    folder.mkdir(exist_ok=True)
    entries = []
    for unit, (paths, machine) in units_of(pathlib.Path(__file__).resolve().parent.parent, commands).items():
        file = folder / f"{unit}.cc"
        file.write_text(joined(paths))
        arguments = ["clang++", *shared, *machine, "-c", str(file)]
        entries.append({"directory": str(build), "file": str(file), "arguments": arguments})
    (folder / "compile_commands.json").write_text(json.dumps(entries, indent=1))
    print("\n".join(entry["file"] for entry in entries))


if __name__ == "__main__":
    main()
