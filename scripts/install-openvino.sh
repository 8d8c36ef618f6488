#!/usr/bin/env bash
# Puts OpenVINO beside ONNX Runtime's library, under .tools/onnxruntime/ of this repository, where Tidegate looks for it: what
# runs versions that are deployed in bf16.
#
# It is the plug-in for ONNX Runtime out of its wheel on the Python package index, fetched by pip's ordinary client, and of
# that the parts for CPUs. Nothing is installed into the system or into a Python environment. Running it again does nothing.
#
# Usage: scripts/install-openvino.sh [FOLDER]

set -euo pipefail

readonly VERSION=1.8.1
readonly PLUG_IN=libonnxruntime_providers_openvino_plugin.so

fail() {
  printf 'install-openvino: %s\n' "$1" >&2
  printf 'Tidegate still runs without it, and computes in f32 and int8 only.\n' >&2
  exit 1
}

repository="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
folder="${1:-$repository/.tools/onnxruntime}"
stamp="$folder/OPENVINO_VERSION"

case "$(uname -s)-$(uname -m)" in
  Linux-x86_64) sha256=3832643158c8c187fcab6db661cde2a8c06a2b3559d95d0f2411ac0e51c5e924 ;;
  *) fail "there is no OpenVINO plug-in $VERSION for $(uname -s) on $(uname -m)" ;;
esac

if [[ -s "$folder/$PLUG_IN" && -f "$stamp" && "$(cat "$stamp")" == "$VERSION" ]]; then
  printf 'OpenVINO (plug-in %s) is already in %s\n' "$VERSION" "$folder"
  exit 0
fi

command -v python3 >/dev/null || fail "python3 is not on the PATH; it is needed to fetch and unpack the wheel"
python3 -m pip --version >/dev/null 2>&1 || fail "pip is missing; install it (Debian: apt-get install python3-pip)"

mkdir -p "$folder"
# Beside its destination, so that the last steps are renames.
workspace="$(mktemp -d "$folder/.download.XXXXXX")"
trap 'rm -rf "$workspace"' EXIT

# The hash stands in a requirements file, or pip does not check it.
printf 'onnxruntime-ep-openvino==%s --hash=sha256:%s\n' "$VERSION" "$sha256" >"$workspace/requirements.txt"
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
  --implementation py --python-version 311 --platform manylinux_2_28_x86_64 --dest "$workspace" \
  --requirement "$workspace/requirements.txt" ||
  fail "pip could not download onnxruntime-ep-openvino==$VERSION (see its message above)"

python3 - "$workspace" <<'PYTHON' || fail "the wheel does not hold what it should"
import pathlib
import shutil
import sys
import zipfile

# The plug-in itself goes last: where it is, all of it is.
PARTS = [
    "libtbb.so.",
    "libopenvino.so.",
    "libopenvino_onnx_frontend.so.",
    "libopenvino_intel_cpu_plugin.so",
    "libonnxruntime_providers_openvino_plugin.so",
]

workspace = pathlib.Path(sys.argv[1])
wheel = next(workspace.glob("*.whl"))
(workspace / "parts").mkdir()
with zipfile.ZipFile(wheel) as archive:
    for part in PARTS:
        prefix = f"onnxruntime_ep_openvino/{part}"
        is_whole = not part.endswith(".")
        names = [name for name in archive.namelist() if (name == prefix if is_whole else name.startswith(prefix))]
        if len(names) != 1:
            sys.exit(f"expected one {part} in {wheel.name}, found {names}")
        target = workspace / "parts" / pathlib.PurePosixPath(names[0]).name
        with archive.open(names[0]) as source, open(target, "wb") as file:
            shutil.copyfileobj(source, file)
PYTHON

for part in "$workspace"/parts/libtbb* "$workspace"/parts/libopenvino* "$workspace/parts/$PLUG_IN"; do
  mv -f "$part" "$folder/"
done
printf '%s\n' "$VERSION" >"$stamp"
printf 'OpenVINO (plug-in %s) is in %s\n' "$VERSION" "$folder"
