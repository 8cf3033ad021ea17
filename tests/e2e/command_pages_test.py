#!/usr/bin/env python3
"""Man pages and bash's completion, both made from the programs: whatever a page of help names stands in them.
Usage: command_pages_test.py SOURCE PROGRAM..."""
import functools
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

SOURCE, PROGRAMS = sys.argv[1], sys.argv[2:]
FAILURES = []


def expect(right, what, seen=""):
    if not right:
        FAILURES.append(what)
        print("FAILED:", what, seen)


@functools.cache
def help_of(program, path):
    return subprocess.run([program, *path, "--help"], capture_output=True, text=True).stdout


def names(page):
    """Options, verbs and choices by option of a page of help."""
    options = re.findall(r"^  (-[^ ]+)", page, re.M)
    options = {name for group in options for name in group.split(",")}
    choices = dict(re.findall(r"^  (?:-\w,)?(--[a-z-]+)[^ ]* TEXT:\{([^}]*)\}", page, re.M))
    return options, set(re.findall(r"^  ([a-z-]+)  ", page.partition("Subcommands:")[2], re.M)), choices


def pages(program, path=()):
    """Each verb's path and page, but those that another program serves."""
    page = help_of(program, path)
    if f"Usage: {' '.join([pathlib.Path(program).name, *path])} " not in page:
        return
    yield path, page
    for verb in names(page)[1]:
        yield from pages(program, (*path, verb))


class Completion:
    def __init__(self, program, folder):
        self.name = pathlib.Path(program).name
        script = subprocess.run([program, "--completion", "bash"], capture_output=True, text=True, check=True).stdout
        self.file = folder + "/" + self.name
        pathlib.Path(self.file).write_text(script)

    def offers(self, *words):
        """What Tab offers behind these words, the last of which is the one under the cursor."""
        words = [self.name, *words]
        line = f"set -eu; source {shlex.quote(self.file)}; COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}; " \
               f"_{self.name.replace('-', '_')}; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, cwd=os.path.dirname(self.file))
        assert done.returncode == 0 and not done.stderr, (words, done.stderr)
        return set(done.stdout.split("\n")) - {""}


def check_completion(program, folder):
    complete = Completion(program, folder)
    for path, page in pages(program):
        options, verbs, choices = names(page)
        offered = complete.offers(*path, "")
        what = f"{complete.name} {' '.join(path)}: completion"
        expect(options <= offered and verbs <= offered, what, (options | verbs) - offered)
        expect(offered <= options | verbs, what + " of what is none", offered - options - verbs)
        for option, words in choices.items():
            wanted = set(words.split(","))
            for behind in ([option, ""], [option, "="], [option, "=", ""]):
                expect(complete.offers(*path, *behind) == wanted, f"{what} of {option}", complete.offers(*path, *behind))
            first = min(wanted)
            expect(first in complete.offers(*path, option, first[:2]), f"{what} of {option} {first[:2]}")
    return complete


def check_files(complete):
    folder = pathlib.Path(complete.file).parent
    (folder / "a file").write_text("")
    for what, words, wanted in (("a file's name", ["generate", "--model", "a"], {"a file"}),
                                ("a number", ["generate", "--tokens", ""], set()),
                                ("a word of the verb's own", ["info", "a"], {"a file"})):
        expect(complete.offers(*words) == wanted, what, complete.offers(*words))
    # A value that is the name of a verb is none.
    expect("--public" in complete.offers("generate", "--prompt", "chat", ""), "a prompt that is a verb's name")


def check_man(program, folder):
    subprocess.run([sys.executable, SOURCE + "/scripts/make_man.py", program, folder], check=True)
    written = set()
    for path, page in pages(program):
        name = "-".join([pathlib.Path(program).name, *path])
        written.add(name + ".1")
        text = pathlib.Path(folder, name + ".1").read_text().replace("\\-", "-")
        options, verbs, _ = names(page)
        bold = set(re.split(r"[ ,\n]", " ".join(re.findall(r"^\\fB(.*)\\fR$", text, re.M))))
        expect(options | verbs <= bold, f"{name}(1)", (options | verbs) - bold)
        if shutil.which("groff"):
            said = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-z", str(pathlib.Path(folder, name + ".1"))],
                                  capture_output=True, text=True)
            expect(not said.stderr, f"{name}(1): groff", said.stderr)
    expect(set(os.listdir(folder)) == written, "pages", set(os.listdir(folder)) ^ written)


def main():
    with tempfile.TemporaryDirectory() as folder:
        for program in PROGRAMS:
            complete = check_completion(program, folder)
            if complete.name == "polyveil":
                check_files(complete)
            check_man(program, f"{folder}/{complete.name}.man")
            print("ok:", complete.name)
    sys.exit(1 if FAILURES else 0)


main()
