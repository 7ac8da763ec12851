# Everything a person needs is here; `make help` lists it. Litestream and MinIO are brought by
# tools/bootstrap, Rust by the toolchain file.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Exports the paths of the programs that `wanted` names, or of Litestream and MinIO, for the rest of
# one recipe line.
tools = tools=$$(tools/bootstrap --print $(wanted)); while read -r line; do export "$$line"; done <<<"$$tools"

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

.PHONY: demo
demo: ## a sweep outlives its machine: kill a node, take it over from S3, look at its past
	@$(tools); tools/demo

.PHONY: test
test: wanted = litestream minio earlier
test: check ## all gates and all tests; the S3 tests run on the minio binary
	@$(tools); export TIDEMILL_TEST_S3=$${TIDEMILL_TEST_S3:-binary}; \
	cargo build --workspace --bins && cargo test --workspace --no-fail-fast $(ARGS)

.PHONY: bench
bench: ## steps per second against the raw disk and a bare skeleton; ARGS=--json for JSON
	@cargo run --quiet --release -p tidemill-benches -- $(ARGS)

.PHONY: check
check: ## formatting, clippy and rustdoc, warnings as errors
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --quiet

.PHONY: bootstrap
bootstrap: ## bring Litestream and MinIO
	@tools/bootstrap
