# `make test` is the one command that says whether a change may land. It runs on a fresh Debian
# machine with Rust, and installs what it misses (see tests/tools/prepare).

TOOLS := target/tools
# The end-to-end tests find the Python of the client here.
export CLIENT_PYTHON := $(CURDIR)/$(TOOLS)/python/bin/python

.PHONY: test prepare fmt proto licences clippy unit advisories demo docs bench

# In this order: the cheap ones first, and the tests last, so that their summary ends the output.
test: prepare
	@$(MAKE) --no-print-directory fmt
	@$(MAKE) --no-print-directory proto
	@$(MAKE) --no-print-directory licences
	@$(MAKE) --no-print-directory clippy
	@$(MAKE) --no-print-directory unit

prepare:
	@tests/tools/prepare $(TOOLS)

fmt:
	cargo fmt --check

# The contract follows the style guide of protocol buffers.
proto:
	$(TOOLS)/node_modules/.bin/buf lint

licences:
	cargo deny --log-level error check licenses bans sources

clippy:
	cargo clippy --quiet --locked --all-targets -- -D warnings

unit:
	cargo test --quiet --locked --doc
	cargo nextest run --locked

# Not part of `test`: the advisory database comes over the network and changes by itself.
advisories:
	cargo deny check advisories

# See it work: the README's first command.
demo:
	cargo run --release --locked -- demo

# Renews what is made of the code.
docs:
	UPDATE_DOCS=1 cargo test --quiet --locked --lib config

# How fast it is, next to what it could be. docs/performance.md says how to read it.
bench:
	cargo bench --quiet --locked --bench gateway -- $(ARGS)
