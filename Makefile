# `make test` is the one command that says whether a change may land. It runs on a fresh Debian
# machine with Rust, and installs what it misses (see tests/tools/prepare).

TOOLS := target/tools
# The end-to-end tests find the Python of the client here.
export CLIENT_PYTHON := $(CURDIR)/$(TOOLS)/python/bin/python

.PHONY: test prepare fmt proto licences clippy console unit advisories demo docs corpus bench fuzz mutants core-mutants soak bench-budget deb sbom fixtures

# In this order: the cheap ones first, and the tests last, so that their summary ends the output.
test: prepare
	@$(MAKE) --no-print-directory fmt
	@$(MAKE) --no-print-directory proto
	@$(MAKE) --no-print-directory licences
	@$(MAKE) --no-print-directory clippy
	@$(MAKE) --no-print-directory console
	@$(MAKE) --no-print-directory unit

prepare:
	@tests/tools/prepare $(TOOLS)

fmt:
	cargo fmt --check
	cargo fmt --check --manifest-path fuzz/Cargo.toml

# The contract follows the style guide of protocol buffers.
proto:
	$(TOOLS)/node_modules/.bin/buf lint

licences:
	cargo deny --log-level error check licenses bans sources

clippy:
	cargo clippy --quiet --locked --all-targets -- -D warnings

# The console in a real browser, with a pretend gateway. tests/console/README.md says how to test it with a
# real one, and to see it without one.
console:
	node --test --test-concurrency=2 --test-reporter=dot tests/console/

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
	UPDATE_DOCS=1 cargo test --quiet --locked --lib in_docs_is_current

# Renews the fuzzers' real encodings, after a change of what is stored or sent.
corpus:
	UPDATE_CORPUS=1 cargo test --quiet --locked --lib the_corpus_holds

# How fast it is, next to what it could be. docs/performance.md says how to read it.
bench:
	cargo bench --quiet --locked --bench gateway -- $(ARGS)

# How well the budget is spent, in virtual time, beside two schedulers that people really write.
# docs/budget.md says how to read it.
bench-budget:
	cargo bench --quiet --locked --bench budget -- $(ARGS)

# Plants bugs, one by one, and demands that each is found.
mutants: prepare
	tests/tools/mutants

# Mutates the decisions one by one (cargo-mutants), and demands the same of their own tests.
core-mutants:
	tests/tools/core-mutants $(TOOLS) $(ARGS)

# Every fuzzer for FUZZ_SECONDS. `make test` replays their corpus; to build them takes longer.
fuzz:
	@tests/tools/fuzz $(TOOLS)

# What takes hours. docs/reliability.md says what it does, and how to make it shorter or longer.
soak: prepare
	@tests/tools/soak $(TOOLS)

# A Debian package with the unit and what shells complete, in target/debian/.
deb:
	@tests/tools/prepare $(TOOLS) release
	cargo build --release --locked
	mkdir -p target/completions
	for shell in bash zsh fish; do \
	  target/release/userpilot-gateway completions $$shell >target/completions/$$shell || exit 1; done
	cargo deb --locked --no-build

# What the binary is made of on this machine's target, crates and the console's libraries, as
# CycloneDX, in target/userpilot-gateway.cdx.json.
sbom:
	@tests/tools/prepare $(TOOLS) release
	cargo cyclonedx --format json --spec-version 1.5 --target $$(rustc --print host-tuple)
	mv userpilot-gateway.cdx.json target/
	node tests/tools/sbom.mjs target/userpilot-gateway.cdx.json

# A store of the current format for the test that opens it: once, when the format changes
# (tests/it/fixtures/README.md).
fixtures:
	UPDATE_FIXTURES=1 cargo nextest run --locked --test it -E 'test(a_store_of_this_format)'
