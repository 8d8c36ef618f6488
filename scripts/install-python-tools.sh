#!/usr/bin/env bash
# Puts a Python environment with what the tests need (scripts/python-requirements.txt) into .tools/python, or with other
# requirements into another folder. Nothing is installed into the system. Running it again does nothing unless the
# requirements have changed.
# Usage: install-python-tools.sh [REQUIREMENTS FOLDER], both from the root of the repository or absolute
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly requirements="${1:-scripts/python-requirements.txt}"
readonly folder="${2:-.tools/python}"
readonly stamp="$folder/requirements.txt"

fail() {
  printf 'install-python-tools: %s\n' "$1" >&2
  exit 1
}

if cmp -s "$requirements" "$stamp" && "$folder/bin/python" -c '' 2>/dev/null; then
  exit 0
fi
command -v python3 >/dev/null || fail "python3 is not on the PATH"
rm -rf "$folder"
python3 -m venv "$folder" || fail "python3 cannot make a virtual environment (Debian: apt-get install python3-venv)"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary=:all: -r "$requirements" ||
  fail "pip could not install $requirements (see its message above)"
# Last, so that an interrupted run starts afresh.
cp "$requirements" "$stamp"
printf 'Python tools of %s are in %s\n' "$requirements" "$folder"
