#!/usr/bin/env bash
# Puts ONNX Runtime's shared library under .tools/onnxruntime/ of this repository, where Tidegate looks for it.
#
# The library is taken out of the official wheel on the Python package index, fetched by pip's ordinary client. Nothing is
# installed into the system or into a Python environment. Running it again does nothing.
#
# Usage: scripts/install-onnxruntime.sh [FOLDER]

set -euo pipefail

readonly VERSION=1.31.1

fail() {
  printf 'install-onnxruntime: %s\n' "$1" >&2
  printf 'Tidegate still runs without it, on the slower built-in runtime.\n' >&2
  exit 1
}

repository="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
folder="${1:-$repository/.tools/onnxruntime}"
stamp="$folder/VERSION"

# The wheel's platform tag and the name under which Tidegate looks for the library.
case "$(uname -s)-$(uname -m)" in
  Linux-x86_64) platform=manylinux_2_28_x86_64 library=libonnxruntime.so ;;
  Linux-aarch64 | Linux-arm64) platform=manylinux_2_28_aarch64 library=libonnxruntime.so ;;
  Darwin-arm64) platform=macosx_14_0_arm64 library=libonnxruntime.dylib ;;
  *) fail "there is no ONNX Runtime $VERSION wheel for $(uname -s) on $(uname -m)" ;;
esac

if [[ -s "$folder/$library" && -f "$stamp" && "$(cat "$stamp")" == "$VERSION" ]]; then
  printf 'ONNX Runtime %s is already in %s\n' "$VERSION" "$folder"
  exit 0
fi

command -v python3 >/dev/null || fail "python3 is not on the PATH; it is needed to fetch and unpack the wheel"
python3 -m pip --version >/dev/null 2>&1 || fail "pip is missing; install it (Debian: apt-get install python3-pip)"

mkdir -p "$folder"
# Beside its destination, so that the last step is a rename: an interrupted run leaves no half library behind.
workspace="$(mktemp -d "$folder/.download.XXXXXX")"
trap 'rm -rf "$workspace"' EXIT

# One CPython tag is as good as another: the library inside is the same.
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --implementation cp \
  --python-version 311 --abi cp311 --platform "$platform" --dest "$workspace" "onnxruntime==$VERSION" ||
  fail "pip could not download onnxruntime==$VERSION for $platform (see its message above)"

python3 - "$workspace" "$library" <<'PYTHON' || fail "the wheel holds no ONNX Runtime library"
import pathlib
import shutil
import sys
import zipfile

workspace, library = pathlib.Path(sys.argv[1]), sys.argv[2]
stem, suffix = library.split(".")
wheel = next(workspace.glob("*.whl"))
with zipfile.ZipFile(wheel) as archive:
    # libonnxruntime.so.1.31.1 on Linux, libonnxruntime.1.31.1.dylib on macOS.
    names = [
        name
        for name in archive.namelist()
        if name.startswith(f"onnxruntime/capi/{stem}.") and f".{suffix}" in name
    ]
    if len(names) != 1:
        sys.exit(f"expected one {library} in {wheel.name}, found {names}")
    with archive.open(names[0]) as source, open(workspace / library, "wb") as target:
        shutil.copyfileobj(source, target)
PYTHON

mv -f "$workspace/$library" "$folder/$library"
printf '%s\n' "$VERSION" >"$stamp"
printf 'ONNX Runtime %s is in %s\n' "$VERSION" "$folder"
