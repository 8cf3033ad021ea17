#!/usr/bin/env python3
"""Runs the `sh` blocks of a document as written, in order, in one shell; ends with the first command that fails.

    scripts/run_document.py docs/tutorial.md [--in FOLDER]    FOLDER: where to run them (default: here)

Each command's seconds are printed behind it. Blocks of other kinds are outputs and files to look at.
"""
import argparse
import pathlib
import re
import subprocess
import sys


def blocks(text):
    return re.findall(r"^```sh\n(.*?)^```$", text, re.S | re.M)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("document")
    parser.add_argument("--in", dest="folder", default=".")
    arguments = parser.parse_args()
    script = ["set -euo pipefail"]
    for block in blocks(pathlib.Path(arguments.document).read_text()):
        script += [f"cat <<'BLOCK' >&2\n--- {block.rstrip()}\nBLOCK", "begin=$SECONDS", block,
                   'echo "--- $((SECONDS - begin)) s" >&2']
    return subprocess.run(["bash", "-c", "\n".join(script)], cwd=arguments.folder).returncode


if __name__ == "__main__":
    sys.exit(main())
