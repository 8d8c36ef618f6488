# The two commands of the README, and what they are made of. `make help` lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash

.PHONY: help demo test build check fmt lint deps audit runtime openvino install clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: runtime build ## set everything up and run the whole story once: register, deploy, predict
	@target/release/tidegate demo

test: ## install what the tests need and run every test
	@scripts/test.sh

build: need-cargo ## build the binary that users install: target/release/tidegate
	@cargo build --release --locked -p tidegate

runtime: ## fetch the ONNX Runtime library into .tools (without it, a slower built-in runtime is used)
	@scripts/install-onnxruntime.sh || true

openvino: runtime ## fetch OpenVINO beside it, which runs what is deployed in bf16
	@scripts/install-openvino.sh

install: build ## install the binary into ~/.cargo/bin
	@cargo install --locked --path crates/tidegate

check: fmt lint deps test ## everything that CI checks

fmt: ## formatting
	@cargo fmt --all --check

lint: ## clippy, warnings are errors
	@cargo clippy --workspace --all-targets --locked -- -D warnings

deps: ## licences, sources, banned and unused dependencies
	@scripts/check-dependencies.sh

audit: ## known vulnerabilities (needs the RustSec database from the network)
	@cargo deny check advisories

clean: ## remove what builds and demos have left
	@rm -rf target tidegate-data tidegate-output .tools

.PHONY: need-cargo
need-cargo:
	@command -v cargo >/dev/null || { echo "Rust is missing: install it from https://rustup.rs, then run this again" >&2; exit 1; }
