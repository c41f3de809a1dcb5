# What a newcomer, a contributor and CI do. `make run` and `make test` need nothing but Rust and a C compiler on Debian;
# what the tests need beyond is installed when it is missing.

CARGO ?= cargo

.PHONY: run test lint test-tools test-deploy chaos fmt bench bench-check bench-reference

run:
	$(CARGO) run --release

test: test-tools
	. target/test-tools/env && $(CARGO) test --workspace
	$(CARGO) test --package standalone --test end_to_end -- --ignored five_thousand

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps

# Chromium, Node.js and Python with the packages of the foreign clients, for the tests of the page and the protocol.
test-tools:
	./scripts/test-tools

# docker-compose.yml on a Docker engine: every push, and a kill -9 of each service.
test-deploy:
	./scripts/test-deploy

# Kills, cuts off and restarts everything under load, and writes into docs/operations.md what that costs: some fifteen minutes.
chaos: test-tools
	. target/test-tools/env && $(CARGO) test --release -p standalone --test cluster chaos -- --ignored --nocapture

fmt:
	$(CARGO) fmt --all

# An hour of measurements on a machine that should have nothing else to do: writes docs/benchmarks.md.
bench:
	COMET_COMMIT=$$(git describe --always --dirty --abbrev=12 --exclude '*') $(CARGO) build --profile dist -p comet -p bench
	built=$${CARGO_TARGET_DIR:-target}/dist; $$built/comet-bench --comet $$built/comet --warmup 1 --seconds 3 report

# Instruction counts against scripts/bench-counts.reference, on however busy a machine: fails at 10 % more.
bench-check:
	./scripts/bench-counts check

bench-reference:
	./scripts/bench-counts reference
