#!/usr/bin/env bash
# Licences, sources, banned crates (cargo-deny) and unused dependencies (cargo-machete). The tools are installed into
# .tools when they are missing: a few minutes, once.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly DENY_VERSION=0.20.2
readonly MACHETE_VERSION=0.9.2
export PATH="$PWD/.tools/bin:$PATH"

need() {
  local tool=$1 version=$2
  command -v "$tool" >/dev/null && return
  echo "installing $tool $version into .tools (a few minutes, once)"
  cargo install --quiet --locked --root .tools "$tool@$version" ||
    { echo "could not install $tool; install it by hand: cargo install --locked $tool" >&2; exit 1; }
}

need cargo-machete "$MACHETE_VERSION"
need cargo-deny "$DENY_VERSION"
cargo machete
cargo deny --log-level error check bans licenses sources
