# `make` lists what there is to make.
KUBERNETES := 1.36.3

.PHONY: help setup rig stock kubernetes build check test up bench soak fuzz clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what all else needs (Debian packages)
	scripts/install

rig: setup ## build the real Mesos master and agent of the tests
	tests/mesos/setup

kubernetes: setup ## build Kubernetes and etcd (the first time: a quarter of an hour on two cores)
	kubernetes/build $(KUBERNETES)

build: setup ## build the programs, optimised
	cargo build --release --locked --workspace

check: setup ## formatting, lints, documentation
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

test: stock ## all tests
	cargo build --workspace --locked
	cargo test --workspace --locked

stock: rig # what the tests use as it is
	kubernetes/build $(KUBERNETES) etcd etcdctl kube-apiserver kubectl
	tests/dcos/setup

up: rig kubernetes build ## a Kubernetes cluster on this machine, on a real Mesos
	exec cargo run --release --locked -q -p kube-executor-tests --bin up -- --kubernetes-version $(KUBERNETES)

bench: rig build ## measure
	scripts/install bench
	tests/dcos/setup
	cargo run --release --locked -q -p kube-executor-tests --bin bench

soak: stock ## all tests, ROUNDS times in a row (20 if not given), up to the first failure
	cargo build --workspace --locked
	for round in $$(seq $(or $(ROUNDS),20)); do echo "round $$round"; cargo test --workspace --locked -q || exit 1; done

fuzz: ## fuzz the parsers of what strangers send, each for SECONDS (60 if not given)
	scripts/fuzz $(or $(SECONDS),60)

clean: ## remove what cargo built here; the cache of Kubernetes and Mesos stays
	cargo clean
