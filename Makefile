# Recipes are short; what they do is in script/. Every target sets up what it needs.
.DEFAULT_GOAL := help
.PHONY: help demo test test-api test-lighthouse sam test-sam test-web test-matrix bench-sql bench-sample bench-http bench-alerts bench-size check audit check-format fmt lint doc build package setup clean

# At least three at once, also on two processors: many tests wait for a server or a clock.
export RUST_TEST_THREADS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN); echo $$((n > 3 ? n : 3)))

help: ## this list
	@sed -n 's/^\([a-z-]*\):.* ## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

demo: ## the whole thing on this machine, until Ctrl-C (DEMO_ONCE=1: until its first answer)
	@script/demo

test: ## all tests: on this system's PostgreSQL, then on the oldest and the newest supported
	@script/setup build postgres postgres-14 postgres-18 pg_upgrade pgbouncer promtool moto lambda
	cargo test --locked
	@script/test-matrix 14 18

test-matrix: ## all tests on PostgreSQL 14 to 18, one after the other (MAJORS=17: on that only)
	@script/setup build postgres servers pg_upgrade pgbouncer promtool moto lambda
	@script/test-matrix $(MAJORS)

test-api: ## the API, asked everything by its own description, under an emulator (SEED=n repeats, EXAMPLES=n is more)
	@script/test-api

test-lighthouse: ## the real Lighthouse CI, in Chromium, against the function under an emulator
	@script/test-lighthouse

sam: ## template.yaml under `sam local` on this machine, until Ctrl-C, with a database to watch; needs a Docker engine
	@script/test-sam stay

test-sam: ## template.yaml under `sam local`, in Lambda's own container; needs a Docker engine
	@script/test-sam

test-web: ## the page in a real Chromium on the demo's database, with axe and Lighthouse (ONLY=sign-in; a file of tests/web)
	@script/test-web $(ONLY)

bench-sql: ## what watching costs the server, beside its floor and the naive form (ONLY=large; small, events)
	@script/setup build postgres
	cargo bench --locked --bench sql -- $(ONLY)

bench-sample: ## what sampling costs: an hour of it beside another exporter, and reading the history (ONLY=large; small, trends)
	@script/setup build postgres exporter
	cargo bench --locked --bench sample -- $(ONLY)

bench-http: ## what a GET through AWS's emulator takes beside its statements alone (ONLY=large; small)
	@script/setup build postgres moto lambda
	cargo bench --locked --profile optimised --bench http -- $(ONLY)

bench-alerts: ## how good the alerts are: incidents, ordinary things and a recorded week that must be quiet (ONLY=incidents; week, record)
	@script/setup build postgres
	cargo bench --locked --bench alerts -- $(ONLY)

bench-size: ## crates, and bytes of what is deployed
	@script/bench-size

check: check-format lint doc ## format, lints, documentation, scripts, dependencies, template; changes nothing
	@script/check-dependencies
	@script/check-template

audit: ## what is known against the versions of dependencies; fetches that from GitHub
	@script/check-dependencies advisories

check-format:
	@script/setup lint
	cargo fmt --check

fmt: ## formats the source
	@script/setup lint
	cargo fmt

lint: ## clippy, and shellcheck on the scripts
	@script/setup build lint
	cargo clippy --locked --all-targets -- -D warnings
	@script/check-scripts

doc: ## the crate's documentation, with its links checked
	@script/setup build
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --document-private-items

build: ## the binary, for this machine
	@script/setup build
	cargo build --locked

package: ## dist/pgvigil.zip, which template.yaml deploys (ARCH=arm64, or x86_64: for that)
	@script/package

setup: ## everything that the other targets would install
	@script/setup build postgres servers pg_upgrade pgbouncer promtool moto lambda lighthouse schemathesis sam web lint dependencies

clean: ## removes what was built and installed in the clone
	cargo clean
	rm -rf .tools dist
