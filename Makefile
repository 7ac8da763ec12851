# Everything a person needs is here; `make help` lists it. Litestream is brought by tools/bootstrap,
# Rust by the toolchain file. S3=minio runs the demo and the tests on a MinIO server, which
# tools/bootstrap builds.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

S3 ?= development
minio = $(if $(filter minio,$(S3)),minio)

# Exports the paths of the programs that `wanted` names for the rest of one recipe line.
wanted = litestream $(minio)
tools = tools=$$(tools/bootstrap --print $(wanted)); while read -r line; do export "$$line"; done <<<"$$tools"

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

.PHONY: demo
demo: ## a sweep outlives its machine: kill a node, take it over from S3; KEEP=1: look at it on a page
	@$(tools); tools/demo sweep $(S3) $(if $(KEEP),keep)

.PHONY: demo-agent
demo-agent: ## an agent outlives its machine while it waits for an approval; KEEP=1: you approve
	@$(tools); tools/demo agent $(S3) $(if $(KEEP),keep)

.PHONY: test
test: wanted = litestream earlier $(minio)
test: check ## all gates and all tests, with real processes and real kills
	@$(tools); $(if $(minio),export TIDEMILL_TEST_S3=binary;) \
	cargo build --workspace --bins && cargo test --workspace --no-fail-fast $(ARGS) && \
	cargo test -p tidemill --features otel --lib traces && \
	cargo test -p tidemill --features otel --test otel

.PHONY: bench
bench: ## steps per second against the raw disk and a bare skeleton; ARGS=--json for JSON
	@$(tools); cargo build --quiet --release -p tidemill-cli -p tidemill-benches && \
	target/release/tidemill-benches $(ARGS)

.PHONY: check
check: ## formatting, clippy and rustdoc, warnings as errors
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	cargo clippy -p tidemill --features otel --all-targets --quiet -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --quiet

# Pages link to documents that are not in the book: those links lead to the Markdown itself.
.PHONY: guide
guide: ## the guide as a book, in docs/book
	@command -v mdbook >/dev/null || { echo 'mdbook is missing: cargo install mdbook --locked' >&2; exit 1; }
	@mdbook build docs/guide
	@sed -i -E 's#href="(\.\./[^"]*)\.html#href="\1.md#g' docs/book/*.html
	@echo "docs/book/index.html"

.PHONY: bootstrap
bootstrap: ## bring Litestream
	@tools/bootstrap
