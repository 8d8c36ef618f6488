#!/usr/bin/env bash
# Runs every test. Installs what they need and says what it had to go without:
#   - ONNX Runtime (the tests of that runtime are skipped without it, except in CI);
#   - OpenVINO beside it (as above, on Linux on x86-64);
#   - a Python environment in .tools/python (the tests that drive real clients are skipped without it, except in CI);
#   - PostgreSQL 15 binaries, or TIDEGATE_TEST_POSTGRES (an admin URL): the storage contract's second half;
#   - ../shared/data, or TIDEGATE_TEST_DATA: real models and imagery.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scripts/install-onnxruntime.sh || echo "going on without ONNX Runtime: its tests are skipped"
scripts/install-openvino.sh || echo "going on without OpenVINO: its tests are skipped"
scripts/install-python-tools.sh || echo "going on without Python tools: the tests that need them are skipped"

if cargo nextest --version >/dev/null 2>&1; then
  profile=default
  [ -n "${CI:-}" ] && profile=ci
  exec cargo nextest run --workspace --locked --profile "$profile" "$@"
fi
echo "cargo-nextest is not installed (cargo install --locked cargo-nextest); using cargo test"
exec cargo test --workspace --locked "$@"
