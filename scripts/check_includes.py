#!/usr/bin/env python3
"""Fails when a folder of src/ includes one that stands above it, or when server code includes client code."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent / "src"

# What each folder may include, besides itself.
ALLOWED = {
    "base": set(),
    "ring": {"base"},
    "backend": {"base", "ring"},
    "ckks": {"base", "ring"},
    "circuits": {"base", "ring", "ckks"},
    "approx": {"base"},
    "model": {"base", "approx"},
    "compile": {"base", "ring", "ckks", "approx", "model"},
    "runtime": {"base", "ring", "ckks", "circuits", "approx", "model", "compile"},
    "train": {"base", "ckks", "approx", "model", "compile", "runtime"},
    "wire": {"base", "ring", "ckks", "approx", "model", "compile"},
    "serve": {"base", "ring", "ckks", "circuits", "approx", "model", "compile", "runtime", "wire"},
}
# Folders that only a client may link: secret key, decryptor, tokenizer.
INCLUDE = re.compile(r'^\s*#include "([^"]+)"')


def is_client(path):
    return "client" in path.parts


def check_file(path):
    relative = path.relative_to(ROOT)
    folder = relative.parts[0]
    for number, line in enumerate(path.read_text().splitlines(), 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        target = pathlib.PurePath(match.group(1))
        top = target.parts[0]
        if top in ALLOWED and top != folder and top not in ALLOWED[folder]:
            yield f"src/{relative}:{number}: {folder} includes {target}, which stands above it"
        test = "test" in path.stem.split("_")
        if is_client(target) and not is_client(relative) and folder != "train" and not test:
            yield f"src/{relative}:{number}: includes {target}, which is the client's"


def main():
    files = sorted(p for p in ROOT.rglob("*") if p.suffix in (".h", ".cc", ".cu", ".cuh"))
    errors = [error for path in files for error in check_file(path)]
    print("\n".join(errors) if errors else f"includes point one way in {len(files)} files")
    return 1 if errors else 0


sys.exit(main())
