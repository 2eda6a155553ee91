# Two commands to know: `make demo` shows Pinna at work, `make test` proves it. `make help` lists the rest.

SHELL := /bin/bash
.DEFAULT_GOAL := help

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 13

demo:  ## a microphone streamed to a hub and back, on this machine, without a sound card
	@agent/bootstrap demo
	@.venv/bin/pinna demo

demo-voice:  ## a session that a spoken wake word opens, on this machine, without a sound card
	@agent/bootstrap demo
	@.venv/bin/pinna demo --voice

test: lint  ## lint, unit, contract and integration tests
	@.venv/bin/pytest -n 2 --dist loadfile tests/unit tests/contract tests/ansible
	@.venv/bin/pytest -n 3 --dist loadfile -m "not full" tests/integration

test-full: lint  ## the same, and what takes longer
	@.venv/bin/pytest -n 2 --dist loadfile tests/unit tests/contract tests/ansible
	@.venv/bin/pytest -n 3 --dist loadfile tests/integration

control:  ## Ansible and testinfra into .venv, to provision and verify Pis from this machine
	@agent/bootstrap control

image:  ## the image to flash on a card, in build/image; `image/build --help` tells what can be chosen
	@image/build

test-image: pi-tools  ## to build the image of this checkout, examine it and boot it (half an hour, the first time)
	@.venv/bin/pytest -m "not full" tests/image

test-image-full: test-image  ## and what takes longer: a 3B, ten power cuts, what Imager writes, Raspberry Pi OS as base
	@.venv/bin/pytest -m full tests/image

pi-tools:
	@agent/bootstrap test
	@tests/virtual_pi/bootstrap

lint:  ## ruff, mypy, shellcheck, ansible-lint
	@agent/bootstrap test
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check --quiet .
	@.venv/bin/mypy
	@shellcheck agent/bootstrap .ci/run image/build image/*.sh tests/virtual_pi/bootstrap tests/virtual_pi/*.sh
	@PATH="$(CURDIR)/.venv/bin:$$PATH" .venv/bin/ansible-lint --profile production --offline -q ansible

pi: pi-tools  ## a booted virtual Raspberry Pi with a microphone that speaks, until Ctrl-C
	@.venv/bin/python -m tests.virtual_pi

test-pi: pi-tools  ## what needs a real kernel and a USB microphone, on a virtual Pi; one made an appliance, and broken
	@.venv/bin/pytest -m "not full" tests/virtual_pi
	@.venv/bin/pytest -m "not full" tests/fleet/test_appliance.py tests/faults

test-pi-full: pi-tools  ## all of it: fleets changed, cut short, updated, rolled back; an older Debian (an hour and more)
	@.venv/bin/pytest tests/virtual_pi
	@.venv/bin/pytest tests/fleet

test-faults: pi-tools  ## the doctor: break a virtual Pi in every way it knows, see the cause named, apply the cure
	@.venv/bin/pytest tests/faults

bench:  ## figures side by side with peers: a table, and build/bench.json
	@agent/bootstrap bench
	@tests/virtual_pi/bootstrap
	@.venv/bin/python -m tests.bench

lock:  ## resolve the dependencies anew (needs uv)
	@uv pip compile -q pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header \
	  --all-extras --group test --group build -o requirements-dev.lock
	@uv pip compile -q pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header \
	  --extra view --extra hub --extra recorder --extra voice --extra wakeword --extra button --group build -c requirements-dev.lock -o requirements.lock

.PHONY: help demo demo-voice test test-full control image test-image test-image-full lint pi pi-tools test-pi test-pi-full test-faults bench lock
