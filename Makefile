# Everything a contributor runs. Each target installs what it needs and is missing, and says so.

# rustup's programs, also in shells that have not read its profile.
export PATH := $(HOME)/.cargo/bin:$(PATH)

CARGO ?= cargo
# Arguments for `drover dev`: make dev ARGS="--shards 2 --fresh"
ARGS ?=

.PHONY: help dev test test-versions check lint bench bench-crowd deps

help:
	@echo 'make dev     run a four-shard cluster on this machine (ARGS="--shards 2 --fresh" are passed on)'
	@echo 'make test    every test, on real PostgreSQL servers'
	@echo 'make test-versions  sessions over PostgreSQL 16, 17 and 18, from the npm registry (ARGS="18")'
	@echo 'make check   compile everything and check the house rules: seconds, for before a commit'
	@echo 'make lint    formatting, clippy with warnings as errors, the house rules'
	@echo 'make bench   CPU, system calls and latency per transaction, next to PgBouncer (ARGS="--quick")'
	@echo 'make bench-crowd  100,000 clients on 32 server connections: memory of each, and no error'
	@echo 'make deps    install what the others need'

dev: deps
	$(CARGO) run --release -p drover -- dev $(ARGS)

test: deps
	@scripts/test.sh

test-versions: deps
	@scripts/versions.sh $(ARGS)

check: deps
	$(CARGO) check --workspace --all-targets
	$(CARGO) xtask tidy

lint: deps
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) xtask tidy

bench: deps
	@scripts/install-deps.sh pgbouncer
	@scripts/bench.sh $(ARGS)

bench-crowd: deps
	@scripts/bench.sh crowd $(ARGS)

deps:
	@scripts/install-deps.sh
