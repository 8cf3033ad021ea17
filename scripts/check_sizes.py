#!/usr/bin/env python3
"""Fails on a source file above 500 lines, a function above 60, or a line that is too wide (C++ 100, documents 110)."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FILE_LINES, FUNCTION_LINES, CODE_COLUMNS, DOCUMENT_COLUMNS = 500, 60, 100, 110
SOURCES = ("src", "tools", "bench", "tests")
# A definition as clang-format leaves it: a name and its parameters begin a line and its brace ends one.
NOT_A_FUNCTION = re.compile(r"^\s*(namespace|class|struct|enum|union|extern|if|for|while|switch|do|else|return|case)\b|^\s*[}\]]|=\s*\{$|^\s*\{$")


def functions(lines):
    """Yields (first line, lines) of every definition outside of other functions."""
    start, indent = None, 0
    for number, line in enumerate(lines):
        stripped = line.rstrip()
        depth = len(line) - len(line.lstrip())
        if start is None:
            if stripped.endswith("{") and "(" in "".join(lines[max(0, number - 4):number + 1]) and depth <= 4 \
                    and not NOT_A_FUNCTION.match(stripped):
                # The parameters may have begun some lines above, at the indentation of the closing brace.
                start, indent = number, depth
                while start > 0 and (lines[start].count(")") > lines[start].count("(") or
                                     len(lines[start]) - len(lines[start].lstrip()) > indent):
                    start -= 1
                indent = len(lines[start]) - len(lines[start].lstrip())
        elif stripped in ("}", "};") and depth == indent:
            yield start + 1, number - start + 1
            start = None


def check_code(path):
    lines = path.read_text().splitlines()
    name = path.relative_to(ROOT)
    if len(lines) > FILE_LINES:
        yield f"{name}: {len(lines)} lines > {FILE_LINES}"
    for first, count in functions(lines):
        if count > FUNCTION_LINES:
            yield f"{name}:{first}: a function of {count} lines > {FUNCTION_LINES}"
    raw = False  # inside a raw string, which is as wide as it is
    for number, line in enumerate(lines, 1):
        raw = (raw or 'R"(' in line) and ')"' not in line
        if len(line) > CODE_COLUMNS and not raw and 'R"' not in line and "#include" not in line and "://" not in line:
            yield f"{name}:{number}: {len(line)} columns > {CODE_COLUMNS}"


def check_document(path):
    code = False
    for number, line in enumerate(path.read_text().splitlines(), 1):
        code ^= line.startswith("```")
        if len(line) > DOCUMENT_COLUMNS and not code and not line.startswith(("|", "    ")) and "](" not in line:
            yield f"{path.relative_to(ROOT)}:{number}: {len(line)} columns > {DOCUMENT_COLUMNS}"


def main():
    code = sorted(p for folder in SOURCES for p in (ROOT / folder).rglob("*") if p.suffix in (".h", ".cc"))
    # Weights that were got lie a folder deeper.
    documents = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("models/*/*.md")])
    errors = [e for p in code for e in check_code(p)] + [e for p in documents for e in check_document(p)]
    print("\n".join(errors) if errors else f"sizes hold in {len(code)} sources and {len(documents)} documents")
    return 1 if errors else 0


sys.exit(main())
