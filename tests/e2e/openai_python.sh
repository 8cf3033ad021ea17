#!/usr/bin/env bash
# Prints a Python that has the official `openai` package: this machine's, or one made in FOLDER, where it is kept.
# Usage: openai_python.sh FOLDER
set -euo pipefail
if python3 -c "import openai" 2>/dev/null; then
  echo python3
  exit
fi
mkdir -p "$1"
exec 9>"$1/lock"
flock 9
python=$1/venv/bin/python
if ! "$python" -c "import openai" 2>/dev/null; then
  python3 -m venv "$1/venv" >&2
  "$1/venv/bin/pip" install -q openai >&2
fi
echo "$python"
