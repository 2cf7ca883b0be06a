# The commands for people and pipelines. `make` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
# With it, each of the hundreds of Python processes of a test run would compile all its modules again.
unexport PYTHONDONTWRITEBYTECODE

UV_VERSION := 0.13.9
# The uv of this machine, or one from PyPI in .tools: only python3 has to be installed.
UV := $(or $(shell command -v uv 2>/dev/null),.tools/uv/bin/uv)
RUN := $(UV) run --frozen
# In a fresh clone, mypy would take a minute of a processor to read again what it has checked in another one.
export MYPY_CACHE_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/userstorage-mypy
LOCALCLUSTER := $(RUN) localcluster

CLUSTER ?= control-plane
CLUSTER_DIR ?= .cluster
IMAGE ?= userstorage-operator:0.1.0
# mypy keeps one processor busy for longer than the other linters together.
IN_PAIRS = $(MAKE) --no-print-directory --jobs=2 --output-sync=target
COVERED ?= tests/unit packages tests/component tests/cluster

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

.tools/uv/bin/uv:
	python3 -m venv .tools/uv || { echo "python3 has no venv module; install it (Debian: apt-get install python3-venv)"; exit 1; }
	.tools/uv/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

.PHONY: install
install: $(filter .tools/%,$(UV)) ## Install the locked dependencies into .venv
	@$(UV) sync --frozen --quiet

.PHONY: lint
lint: install ## ruff, mypy, import contracts, scripts, Dockerfile, workflows, words
	@$(IN_PAIRS) types style

.PHONY: types
types:
	$(RUN) mypy

.PHONY: collection
collection:
	@# Compiles the tests once, with their assertions, and what they import: else each worker would.
	@found=$$($(RUN) pytest --collect-only -qq tests packages) || { echo "$$found"; exit 1; }

.PHONY: style
style:
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	$(RUN) lint-imports
	$(RUN) shellcheck scripts/*.sh
	$(RUN) hadolint Dockerfile
	$(RUN) go -C tools/actionlint tool actionlint $(addprefix ../../,$(wildcard .github/workflows/*.yaml))
	$(RUN) zizmor --offline --quiet .github
	$(RUN) check-jsonschema --quiet --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/bug.yaml .github/ISSUE_TEMPLATE/feature.yaml
	$(RUN) python -m prose

.PHONY: test-unit
test-unit: install ## Tests that need no cluster
	$(RUN) pytest -q tests/unit packages

.PHONY: check
check: lint test-unit ## Lint and unit tests, about a minute

.PHONY: docs
docs: $(filter .tools/%,$(UV)) ## Build the documentation site in dist/site; a warning, such as a broken link, is an error
	@# In an environment of its own, which no other target changes.
	UV_PROJECT_ENVIRONMENT=.tools/docs $(RUN) --only-group docs sphinx-build -q -W --keep-going -c docs . dist/site
	@echo "open dist/site/index.html"

.PHONY: verify
verify: install ## Check that generated files are current and the tree is clean
	$(RUN) python -m apireference --check
	$(RUN) python -m chart --check
	$(RUN) python -m pluginreference --check
	$(RUN) python -m monitoring --check
	$(RUN) python benchmarks/report.py --check
	$(UV) lock --check --quiet
	@test -z "$$(git status --porcelain)" || { git status --short; echo "the tree is not clean"; exit 1; }

.PHONY: format
format: install ## Format, apply automatic fixes, regenerate generated files
	$(RUN) ruff check --fix --quiet . || true
	$(RUN) ruff format .
	$(RUN) python -m apireference
	$(RUN) python -m pluginreference
	$(RUN) python -m monitoring
	$(RUN) python -m chart

.PHONY: test
test: install ## Lint, then all tests that this machine can run; lists at the end those that it cannot run
	@$(IN_PAIRS) types style collection
	@# Build first: pytest would hide the progress and count the build as part of a test.
	@$(if $(filter kind existing,$(CLUSTER)),:,docker version >/dev/null 2>&1 || $(LOCALCLUSTER) build --profile $$([ "$$(id -u)" = 0 ] && echo node || echo control-plane))
	@$(if $(filter kind existing,$(CLUSTER)),:,[ "$$(id -u)" != 0 ] || $(RUN) testservers build)
	@# Five at a time (tests/conftest.py), one by one with TEST_ARGS="-n 0". A test on a cluster that fails is run once more.
	@# Not included, because they or their builds take five minutes or more: make test-redis, make test-deploy, make test-monitoring, make test-mutants, make soak; the P1 cells of make test-faults.
	$(RUN) pytest tests packages --ignore=tests/cluster/test_redis_proof.py --ignore=tests/cluster/test_prometheus_operator.py --ignore=tests/deploy --ignore=tests/faults/nightly -n auto --reruns 1 --rerun-exclude-path tests/unit --rerun-exclude-path packages $(if $(filter kind existing,$(CLUSTER)),--cluster=$(CLUSTER)) $(TEST_ARGS)

.PHONY: coverage
coverage: install ## All tests that need no root rights; their coverage is in coverage.xml
	@$(LOCALCLUSTER) build --profile control-plane
	$(RUN) pytest $(COVERED) --ignore=tests/cluster/test_redis_proof.py --ignore=tests/cluster/test_prometheus_operator.py --cluster=local -n auto --reruns 1 --rerun-exclude-path tests/unit --rerun-exclude-path packages \
	  --cov --cov-report=xml --cov-report=term:skip-covered $(TEST_ARGS)

.PHONY: test-e2e
test-e2e: install ## Tests with real containers: on kind if a Docker engine answers, else on a local node
	@$(RUN) testservers build
	$(RUN) pytest -q tests/e2e $(TEST_ARGS)

.PHONY: test-oldest
test-oldest: install ## CRDs, admission policies and rights on the oldest supported Kubernetes; its first run compiles it for ten minutes
	@$(LOCALCLUSTER) build --profile control-plane-1.32
	$(RUN) pytest -q tests/component/test_crd_admission.py tests/component/test_admission_policy.py tests/component/test_rbac.py \
	  tests/component/test_examples.py --cluster=local --control-plane=control-plane-1.32 $(TEST_ARGS)

.PHONY: test-gateways
test-gateways: install ## Gateways in front of real pods: every outage behind each, a minute long, and 1 GiB; half an hour; writes tests/e2e/results/gateways.md
	@$(LOCALCLUSTER) build --profile node
	@$(RUN) testservers build
	$(RUN) pytest -q tests/e2e/test_gateways.py tests/e2e/test_gateway_threats.py -n 3 \
	  --all-gateways --gateway-outage=60 --gateway-mebibytes=1024 --timeout=1800 \
	  $(if $(TEST_ARGS),,--gateway-table=tests/e2e/results/gateways.md) $(TEST_ARGS)

.PHONY: test-model
test-model: install ## Ten thousand random histories of the reconciler on an API server in memory; three minutes on two cores
	$(RUN) pytest -q tests/model -n 2 --model-examples=10000 $(TEST_ARGS)

.PHONY: test-mutants
test-mutants: install ## A broken operator for each invariant: some test must notice; writes tests/faults/results/mutants.md
	PYTHONPATH=tests $(RUN) python -m mutants --table tests/faults/results/mutants.md $(MUTANT_ARGS)

.PHONY: soak
soak: install ## Two hours of changes and faults around one operator process; writes tests/faults/results/soak.md (SOAK_ARGS="--minutes 90")
	@$(LOCALCLUSTER) build --profile control-plane
	PYTHONPATH=tests $(RUN) --group picture python -m soak $(SOAK_ARGS)

.PHONY: test-upgrade
test-upgrade: install ## Upgrades from every released version, with 200 objects each
	$(RUN) pytest -q tests/cluster/test_upgrade.py tests/cluster/test_uninstall.py --upgrade-objects=200 --timeout=1800 $(TEST_ARGS)

.PHONY: test-many
test-many: install ## 200 users created, deleted and rolled out while the operator is killed; 50 users of one volume; ten minutes
	$(RUN) pytest -q tests/cluster/test_many.py tests/cluster/test_rollout.py tests/e2e/test_shared_claim.py \
	  --many-users=200 --sharing-users=50 --timeout=1800 $(TEST_ARGS)

.PHONY: release-fixtures
release-fixtures: install ## Record the objects of this version for the upgrade tests of later ones
	$(RUN) python -m releasefixtures

.PHONY: test-election
test-election: install ## Leader election: twenty trials of each failure, half an hour; writes docs/election-proof.md
	$(RUN) pytest -q tests/unit/test_elector.py tests/cluster/test_election.py \
	  --election-trials=20 --election-table=docs/election-proof.md --timeout=300 $(TEST_ARGS)

.PHONY: test-redis
test-redis: install ## Every failure of Redis with 200 objects, and 1,000 objects in steady state; writes docs/redis-proof.md
	$(RUN) pytest -q tests/cluster/test_redis_proof.py tests/cluster/test_redis_steady.py tests/cluster/test_redis_poisoned.py \
	  --redis-proof-objects=200 --redis-proof-table=docs/redis-proof.md --redis-steady-objects=1000 --timeout=7200 $(TEST_ARGS)

.PHONY: test-faults
test-faults: install ## The fault matrix, P0 and P1, three quarters of an hour; writes tests/faults/results/table.md (CELLS="F01 F13" runs these only)
	@$(LOCALCLUSTER) build --profile $$([ "$$(id -u)" = 0 ] && echo node || echo control-plane)
	@[ "$$(id -u)" != 0 ] || $(RUN) testservers build
	$(RUN) python tests/faults/run.py $(CELLS)

.PHONY: test-monitoring
test-monitoring: install ## Monitors, rules and alerts with the real Prometheus operator; its first run compiles it for eleven minutes
	$(RUN) pytest -q tests/cluster/test_prometheus_operator.py $(TEST_ARGS)

.PHONY: test-deploy
test-deploy: image ## The image as a Deployment of three pods, rolling restarts of operator and gate under load, the scripts
	@$(LOCALCLUSTER) build --profile node
	$(RUN) pytest -q tests/deploy --timeout=1800 $(TEST_ARGS)

.PHONY: manifests
manifests: install redis-secret ## Check deploy/ with the schemas of Kubernetes and with checkov
	$(RUN) python -m manifests
	$(UV) run --frozen --project tools/checkov checkov --skip-download --framework kubernetes --compact --quiet --directory deploy

.PHONY: redis-secret
redis-secret: ## Generate the password of the Redis of deploy/overlays/demo, unless it exists
	@scripts/redis-secret.sh

.PHONY: image
image: install ## Build the operator's image, as a tar file too, and its SBOM (IMAGE=registry.example.org/name:tag)
	$(RUN) python -m operatorimage build $(IMAGE) --archive dist/userstorage-operator.tar --sbom dist $(IMAGE_OPTIONS)

.PHONY: push
push: install ## Push the image to the registry in its name
	$(RUN) python -m operatorimage push $(IMAGE) $(PUSH_OPTIONS)

.PHONY: release-image
release-image: install ## Build IMAGE for amd64 and arm64 as dist/image.tar (OCI), with SBOM and provenance; needs Docker. Its digest: dist/image.json
	@mkdir -p dist
	$(RUN) python -m operatorimage build $(IMAGE) --option=--platform=linux/amd64,linux/arm64 --option=--output=type=oci,dest=dist/image.tar \
	  --option=--sbom=true --option=--provenance=mode=max --option=--metadata-file=dist/image.json --sbom dist $(IMAGE_OPTIONS)

.PHONY: release-plan
release-plan: install ## Show under which names a tag is published, and whether it is the latest version (TAG=v0.1.0 REPOSITORY=owner/name)
	@$(RUN) python -m release plan $(TAG) $(REPOSITORY)

.PHONY: release-reference
release-reference: install ## Show IMAGE with the digest that `make release-image` wrote
	@$(RUN) python -m release reference $(IMAGE) dist/image.json

.PHONY: release-artifacts
release-artifacts: install ## Write manifests, chart, list of images, krew manifest, notes and checksums of this version into dist/release (IMAGE=… REPOSITORY=owner/name)
	$(RUN) python -m release artifacts $(IMAGE) $(or $(REPOSITORY),owner/name)

.PHONY: release-plugin
release-plugin: install ## Build the kubectl plugin as PyPI has it, into dist/pypi
	$(UV) build --quiet --clear --package kubectl-userstorage --out-dir dist/pypi

.PHONY: release-notes
release-notes: install ## Show the notes of this version
	@$(RUN) python -m release notes

.PHONY: changelog
changelog: install ## Move the news fragments of changes/ into CHANGELOG.md, before the tag of this version
	$(RUN) towncrier build --yes --version=$$($(UV) version --short)

.PHONY: deploy
deploy: install ## Build and push IMAGE, apply deploy/ with it and wait; roll back if that fails
	$(RUN) scripts/deploy.sh $(DEPLOY_OPTIONS) $(IMAGE)

.PHONY: demo
demo: install ## Start a cluster, the operator and a file browser, and leave them running
	@$(RUN) python -m demo up --directory $(CLUSTER_DIR)

.PHONY: demo-door
demo-door: install ## The demo with a login: nginx, oauth2-proxy and the gate before alice and bob; leaves it running
	@$(RUN) python -m demo door --directory $(CLUSTER_DIR)

.PHONY: demo-down
demo-down: install ## Stop everything that the demo started
	@$(RUN) python -m demo down --directory $(CLUSTER_DIR)

.PHONY: cluster-up
cluster-up: install ## Start a cluster (CLUSTER=control-plane, node or kind) and a Redis; .cluster/kubeconfig and .cluster/redis-url
	$(LOCALCLUSTER) up --profile $(CLUSTER) --directory $(CLUSTER_DIR)
	$(RUN) testservers up --directory $(CLUSTER_DIR)

.PHONY: cluster-down
cluster-down: install ## Stop the cluster and its Redis, and delete their files
	$(RUN) testservers down --directory $(CLUSTER_DIR)
	$(LOCALCLUSTER) down --directory $(CLUSTER_DIR)

.PHONY: picture
picture: install ## Draw docs/dashboard.png: five minutes of two operators with a real Prometheus
	$(RUN) --group picture python -m monitoring.scene docs/dashboard.png

.PHONY: readme-pictures
readme-pictures: install ## Record the demo and the page for the README: docs/demo.svg, docs/page.png
	$(RUN) python -m demo.recording docs

.PHONY: bench
bench: install ## Compare with the Go peer: one table with the ratios (BENCH_ARGS="--objects 500,1000,3000 --rounds 3")
	$(RUN) python benchmarks/side_by_side.py $(BENCH_ARGS)

.PHONY: bench-scale
bench-scale: install ## Ten thousand objects: created, at rest, restarted, failed over, deleted; an hour (BENCH_ARGS="--objects 1000 --steady-minutes 2")
	$(RUN) python benchmarks/scale.py $(BENCH_ARGS)

.PHONY: bench-crowds
bench-crowds: install ## One tenant's crowds, and what another tenant waits; a rollout, a drain and a resume in a crowded namespace
	$(RUN) python benchmarks/crowds.py $(BENCH_ARGS)

.PHONY: performance
performance: install ## Write the newest results into docs/performance.md and the README, and draw their picture
	$(RUN) --group picture python benchmarks/report.py --picture

.PHONY: profile
profile: install ## A flame graph of the operator in a burst, and its CPU by package; as root
	$(RUN) --group profile python benchmarks/profiling.py $(BENCH_ARGS)

.PHONY: bench-burst
bench-burst: install ## CPU of the operator in a burst against a simulated API server; two minutes, no cluster (BENCH_ARGS="COMMAND OTHER_COMMAND")
	PYTHONPATH=tests $(RUN) python benchmarks/burst.py $(BENCH_ARGS)

.PHONY: bench-memory
bench-memory: install ## Memory of the caches per user, and CPU per event (BENCH_ARGS="--users 10000")
	PYTHONPATH=tests $(RUN) python benchmarks/memory.py $(BENCH_ARGS)

.PHONY: bench-apply
bench-apply: install ## The cost of creating and applying a child for the API server
	$(RUN) python benchmarks/apply_or_create.py

.PHONY: bench-requests
bench-requests: install ## The cost of each kind of request of the operator for the API server
	$(RUN) python benchmarks/request_costs.py

.PHONY: bench-read-api
bench-read-api: install ## The read API at 1,000 requests a second, from Redis and from the watch
	$(RUN) python benchmarks/read_api.py $(BENCH_ARGS)

.PHONY: bench-plugin
bench-plugin: install ## The kubectl plugin with 10,000 UserStorages, from the API server and from the read API (BENCH_ARGS="--objects 1000")
	$(RUN) python benchmarks/plugin.py $(BENCH_ARGS)

.PHONY: bench-gate
bench-gate: install ## The gate at 2,000 questions a second, with 10,000 UserStorages and twenty changes a second
	$(RUN) python benchmarks/gate.py $(BENCH_ARGS)

.PHONY: clean
clean: ## Delete the files of builds and tests from the tree
	rm -rf .venv .tools tools/checkov/.venv dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .layers .coverage* coverage.xml
