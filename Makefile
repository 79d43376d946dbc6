# Every check that CI runs is a target here, so a laptop can run the same one.
# It needs GNU make, bash, git and Go (and a C compiler for the race detector);
# tools come from the Go module proxy.

SHELL := bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := all

BIN := .bin

# How long each fuzz target runs.
FUZZTIME ?= 60s
# Which fuzz targets run: a pattern of names, and one of names to leave out.
FUZZ ?= .
FUZZ_SKIP ?= ^$$
# How many random pairs of grant and need make oracle asks about.
ORACLE_PAIRS ?= 10000000
# How many random calls make filter-oracle asks about.
FILTER_CASES ?= 100000
# How long make compiled-oracle runs, and the seed of its first policy; 0: somewhere
# new, which it prints.
COMPILED_TIME ?= 1h
COMPILED_SEED ?= 0
# How many random questions make decide-oracle asks.
DECIDE_CASES ?= 1000000
# How long make properties runs, and the seed of its first policy; 0: somewhere new,
# which it prints.
PROPERTIES_TIME ?= 1h
PROPERTIES_SEED ?= 0
# How long make soak and make soak-proxy run, and how many sessions the latter begins.
SOAK_TIME ?= 3m
SOAK_SESSIONS ?= 1000
# How often make kill-test kills a server.
KILLS ?= 200
# How many sequences of changes make data-oracle makes.
DATA_SEEDS ?= 100
# How soon the servers of make keepalive-test ask for a sign of life: the default.
KEEPALIVE ?= 1m
# How long the source of make replica-test is away.
SOURCE_AWAY ?= 1m
# How often each benchmark runs; benchstat wants ten.
BENCHCOUNT ?= 1
# What make mutation changes, in how many places, which of them, and further flags.
MUTATE ?= ./rar ./engine ./mcp
MUTANTS ?= 200
MUTATION_SEED ?= 1
MUTATIONARGS ?=
# Flags of tests/bench/run, which compares the built binary with OPA.
BENCHARGS ?=
# Flags of the same for authzd proxy.
PROXYBENCHARGS ?=
# Flags of the same for make bench-overload.
OVERLOADBENCHARGS ?=
# Flags of the same for make bench-bundles.
DATABENCHARGS ?=
BUNDLEBENCHARGS ?=
# Flags of the same for make bench-peers.
PEERSBENCHARGS ?=
# What `make run` serves, and further flags for it.
BUNDLE ?= payments=policies/examples/payments
ARGS ?=

# govulncheck reads the vulnerability database over the network, so it is no part of `make all`.
GOVULNCHECK_VERSION := v1.9.0

# Bundles are tested one by one: each has its own package authz. Decision cases
# are ignored because stock OPA would load their YAML as policy data.
POLICY_LIB := policies/lib
POLICY_BUNDLES = $(patsubst %/,%,$(sort $(dir $(wildcard policies/default/*.rego policies/examples/*/*.rego))))
OPA_IGNORE := --ignore cases

.PHONY: all
all: generate-check lint test

.PHONY: help
help: ## Show this list.
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# ---- build and run -------------------------------------------------------

.PHONY: build
build: ## Build the static binary into .bin/authzd.
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o $(BIN)/authzd ./cmd/authzd

.PHONY: run
run: ## Serve BUNDLE (NAME=PATH; default: the payments example) with the flags in ARGS.
	go run ./cmd/authzd serve --bundle $(BUNDLE) $(ARGS)

.PHONY: demo
demo: ## Show deny, hint, new credential, allow, step by step in this terminal.
	go run ./examples/payments/demo

# ---- tests ---------------------------------------------------------------

# The race detector makes a test five to ten times as slow. Oracles and bounds, of
# which most have no second goroutine, are run in full without it; with it everything
# runs in short (and vet, which has looked by then, does not). make test-race has both.
# SQLite is translated from C and has locks of its own: there the detector would cost
# the most and see nothing of ours, whose calls of it are watched.
.PHONY: test
test: policy ## Run every Rego test and every Go test, then the short Go tests with the race detector.
	go test ./...
	go test -race -short -vet=off -gcflags=modernc.org/sqlite/lib=-race=false ./...

.PHONY: test-short
test-short: ## Run the quick tests only: no race detector, no built binary.
	go test -short ./...

.PHONY: test-race
test-race: ## Run every Go test in full with the race detector, results never from the cache.
	go test -race -count=1 ./...

.PHONY: e2e
e2e: ## Test the built binary from outside, results never from the cache.
	go test -count=1 ./tests/...

.PHONY: soak
soak: ## Hold every answer of the built server against an oracle for SOAK_TIME (default 3m), at 70 % load while policy changes.
	SOAK_TIME=$(SOAK_TIME) go test -count=1 -timeout 12h -v -run '^TestSoak$$' ./tests/soak

.PHONY: soak-proxy
soak-proxy: ## Put SOAK_SESSIONS sessions (default 1000) through the built proxy for SOAK_TIME (default 3m).
	AUTHZD_SOAK_SESSIONS=$(SOAK_SESSIONS) AUTHZD_SOAK_TIME=$(SOAK_TIME) go test -count=1 -timeout 1h -v -run '^TestSessions$$' ./tests/proxy

.PHONY: kill-test
kill-test: ## Kill a server KILLS times (default 200) while bundles are pushed, activated and rolled back, and data is changed.
	KILLS=$(KILLS) go test -count=1 -timeout 1h -v -run '^TestKill(Large)?$$' ./tests/e2e

.PHONY: replica-test
replica-test: ## Have 20 replicas follow a source that is away for SOURCE_AWAY (default 1m).
	SOURCE_AWAY=$(SOURCE_AWAY) go test -count=1 -timeout 1h -v -run '^TestReplicas$$' ./tests/e2e

# One target at a time, because each uses all processors; the targets of a package are
# of one binary, since it takes longer to link than a short run takes. A list that came out
# empty is an error: a renamed target must not turn this into a check of nothing.
.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZTIME (default 60s), one after another.
	@set -euo pipefail; ran=0; tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; \
	files=$$(grep -rl --include='*_test.go' '^func Fuzz' . || true); \
	for dir in $$(for file in $$files; do dirname "$$file"; done | sort -u); do \
		names=$$(sed -nE 's/^func (Fuzz[A-Za-z0-9_]*)\(.*/\1/p' "$$dir"/*_test.go | grep -E '$(FUZZ)' | grep -vE '$(FUZZ_SKIP)' || true); \
		if [ -z "$$names" ]; then continue; fi; \
		go test -c -fuzz . -o "$$tmp/fuzz.test" "$$dir"; \
		for name in $$names; do \
			echo "fuzz: $$dir $$name for $(FUZZTIME)"; \
			.ci/fuzz "$$tmp/fuzz.test" "$$dir" "$$name" $(FUZZTIME); \
			ran=$$((ran + 1)); \
		done; \
	done; \
	if [ "$$ran" -eq 0 ]; then echo 'fuzz: no fuzz target found' >&2; exit 1; fi; \
	echo "fuzz: $$ran targets clean"

.PHONY: oracle
oracle: ## Ask Covers and the independent oracles about ORACLE_PAIRS random pairs (default 10 million).
	RAR_ORACLE_PAIRS=$(ORACLE_PAIRS) go test -count=1 -timeout 2h -v -run '^TestOracle$$' ./rar

.PHONY: filter-oracle
filter-oracle: ## Hold FilterTools against FILTER_CASES random policies and calls (default 100 000).
	FILTER_ORACLE_CASES=$(FILTER_CASES) go test -count=1 -timeout 2h -v -run '^TestFilterOracle$$' ./engine

.PHONY: compiled-oracle
compiled-oracle: ## Hold compiled policy against OPA's interpreter on random policies for COMPILED_TIME (default 1h) from COMPILED_SEED on.
	go test -count=1 -timeout 3h -v -run '^TestRandomPolicies$$' ./engine/internal/compiled -random $(COMPILED_TIME) -seed $(COMPILED_SEED)

.PHONY: decide-oracle
decide-oracle: ## Hold compiled policy, OPA and a plain reading against each other in DECIDE_CASES questions (default 1 million).
	DECIDE_ORACLE_CASES=$(DECIDE_CASES) go test -count=1 -timeout 2h -v -run '^TestDecideOracle' ./policies

.PHONY: properties
properties: ## Hold every interface against the others on random policies for PROPERTIES_TIME (default 1h) from PROPERTIES_SEED on.
	PROPERTIES_TIME=$(PROPERTIES_TIME) PROPERTIES_SEED=$(PROPERTIES_SEED) go test -count=1 -timeout 12h -v -run '^TestProperties$$' ./tests/properties

.PHONY: data-oracle
data-oracle: ## Hold what is stored of data, and what followers get, against what is live in DATA_SEEDS sequences of changes (default 100).
	DATA_SEEDS=$(DATA_SEEDS) go test -count=1 -timeout 2h -v -run '^TestStoredIsLive$$' ./bundles/registry

.PHONY: keepalive-test
keepalive-test: ## Wait until clients of gRPC that hear nothing any more are given up with KEEPALIVE (default 1m).
	KEEPALIVE=$(KEEPALIVE) go test -count=1 -v -run '^TestKeepalive$$' ./tests/failures

.PHONY: mutation
mutation: ## Change MUTATE (packages) in MUTANTS places (default 200) of the sample MUTATION_SEED, and tell what no test sees.
	nice -n 10 go run ./tests/mutation -n $(MUTANTS) -seed $(MUTATION_SEED) $(MUTATIONARGS) $(MUTATE)

.PHONY: bench
bench: build $(BIN)/opa ## Run the Go benchmarks, then the built binary beside a stock OPA (BENCHARGS: its flags), then authzd proxy.
	go test -run '^$$' -bench . -benchmem -count $(BENCHCOUNT) ./engine ./rar ./tests/bench/workload
	go run ./tests/bench/run $(BENCHARGS)
	go run ./tests/bench/run -proxy -rounds 3 -c 1,16 $(PROXYBENCHARGS)

.PHONY: bench-bundles
bench-bundles: build $(BIN)/opa ## Activate bundles of 10,000 rules under load, beside a stock OPA (BUNDLEBENCHARGS: flags).
	go run ./tests/bench/run -bundles $(BUNDLEBENCHARGS)

.PHONY: bench-data
bench-data: build $(BIN)/opa ## Activate a million rows of data under load, beside a stock OPA (DATABENCHARGS: flags).
	go run ./tests/bench/run -bundles -rows 1000000 -unpinned $(DATABENCHARGS)

.PHONY: bench-overload
bench-overload: build ## Overload authzd, flood it, and run a policy that never ends (OVERLOADBENCHARGS: flags).
	go run ./tests/bench/run -overload -secs 3 $(OVERLOADBENCHARGS)

.PHONY: bench-peers
bench-peers: build $(BIN)/opa $(BIN)/cerbos $(BIN)/openfga ## Compare with OPA, Cerbos and OpenFGA, side by side (PEERSBENCHARGS: flags).
	go run ./tests/bench/run -peers $(PEERSBENCHARGS)

.PHONY: cover
cover: ## Write .bin/cover.html and print the total coverage of hand-written Go.
	@mkdir -p $(BIN)
	go test -coverpkg ./... -coverprofile $(BIN)/cover.all ./...
	grep -v /proto/gen/ $(BIN)/cover.all >$(BIN)/cover.out
	go tool cover -html $(BIN)/cover.out -o $(BIN)/cover.html
	go tool cover -func $(BIN)/cover.out | tail -n 1

.PHONY: policy
policy: $(BIN)/opa ## Test, format-check and strictly compile the shipped Rego with stock OPA.
	$(BIN)/opa fmt --list --fail policies
	$(BIN)/opa check --strict $(POLICY_LIB)
	$(BIN)/opa test --fail-on-empty $(POLICY_LIB)
	@set -euo pipefail; for bundle in $(POLICY_BUNDLES); do \
		echo "policy $$bundle"; \
		$(BIN)/opa check --strict $(OPA_IGNORE) $(POLICY_LIB) "$$bundle"; \
		$(BIN)/opa test --fail-on-empty $(OPA_IGNORE) $(POLICY_LIB) "$$bundle"; \
	done

# ---- code ----------------------------------------------------------------

.PHONY: lint
lint: $(BIN)/golangci-lint $(BIN)/buf ## Check Go, its imports and the protos, without changing anything.
	$(BIN)/golangci-lint config verify
	$(BIN)/golangci-lint run ./...
	cd proto && ../$(BIN)/buf lint
	cd proto && ../$(BIN)/buf format --diff --exit-code

.PHONY: fmt
fmt: $(BIN)/golangci-lint $(BIN)/buf $(BIN)/opa ## Format Go, protos and Rego in place.
	$(BIN)/golangci-lint fmt ./...
	cd proto && ../$(BIN)/buf format --write
	$(BIN)/opa fmt --write policies

.PHONY: generate
generate: $(BIN)/buf ## Generate proto/gen from the protos.
	rm -rf proto/gen
	cd proto && ../$(BIN)/buf generate

# Compared in a temporary directory, so that an uncommitted but current proto/gen
# passes on a laptop and a failing check leaves the tree as it was.
.PHONY: generate-check
generate-check: $(BIN)/buf ## Fail if proto/gen is not what the protos generate, or breaks a released wire.
	@set -euo pipefail; tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; \
	(cd proto && ../$(BIN)/buf generate --output "$$tmp"); \
	if ! diff -r -u proto/gen "$$tmp/gen"; then \
		echo 'generate-check: proto/gen is stale; run make generate' >&2; exit 1; \
	fi; \
	echo 'generate-check: proto/gen is current'
	@set -euo pipefail; tag=$$(git describe --tags --abbrev=0 --match 'v*' 2>/dev/null || true); \
	if [ -z "$$tag" ]; then echo 'generate-check: no release yet, so no wire to keep'; \
	else cd proto && ../$(BIN)/buf breaking --against "../.git#tag=$$tag,subdir=proto"; fi

.PHONY: vuln
vuln: $(BIN)/govulncheck-$(GOVULNCHECK_VERSION) ## Look for known vulnerabilities in what the code calls (needs the network).
	$< ./...

.PHONY: clean
clean: ## Remove what the targets above wrote, tools included.
	rm -rf $(BIN)

# ---- tools, pinned by module files (docs/adr/0001) -----------------------

.PHONY: tools
tools: $(BIN)/buf $(BIN)/opa $(BIN)/grpcurl $(BIN)/gofumpt $(BIN)/golangci-lint ## Build every pinned tool into .bin.

build-tool = go build -modfile=$(1) -o $@ $(2)

$(BIN)/buf: tools.mod tools.sum
	$(call build-tool,tools.mod,github.com/bufbuild/buf/cmd/buf)

$(BIN)/opa: tools.mod tools.sum
	$(call build-tool,tools.mod,github.com/open-policy-agent/opa)

$(BIN)/grpcurl: tools.mod tools.sum
	$(call build-tool,tools.mod,github.com/fullstorydev/grpcurl/cmd/grpcurl)

$(BIN)/gofumpt: tools.mod tools.sum
	$(call build-tool,tools.mod,mvdan.cc/gofumpt)

$(BIN)/golangci-lint: lint.mod lint.sum
	$(call build-tool,lint.mod,github.com/golangci/golangci-lint/v2/cmd/golangci-lint)

# Peers of make bench-peers, which nothing else needs.
$(BIN)/cerbos: peers.mod peers.sum
	$(call build-tool,peers.mod,github.com/cerbos/cerbos/cmd/cerbos)

$(BIN)/openfga: peers.mod peers.sum
	$(call build-tool,peers.mod,github.com/openfga/openfga/cmd/openfga)

$(BIN)/govulncheck-%:
	GOBIN="$(CURDIR)/$(BIN)" go install golang.org/x/vuln/cmd/govulncheck@$*
	mv $(BIN)/govulncheck $@
