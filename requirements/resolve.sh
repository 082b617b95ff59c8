#!/usr/bin/env bash
# Makes the pinned, hashed requirement files from pyproject.toml and the .in files: resolve.sh PYTHON [--upgrade]
# Resolved for the oldest Python that is supported, against the default index alone, so that the hashes are the public
# ones; pip-tools lives in an environment of its own for as long as this runs.
set -euo pipefail
cd "$(dirname "$0")/.."

python=$1
shift
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
"$python" -m venv "$tools"
"$tools/bin/python" -m pip --quiet --quiet install pip-tools

compile() {
  env -u PIP_FIND_LINKS -u PIP_EXTRA_INDEX_URL PIP_CONFIG_FILE=/dev/null \
    "$tools/bin/pip-compile" --quiet --generate-hashes --allow-unsafe --strip-extras --no-header \
    --no-emit-index-url --no-emit-find-links --no-emit-trusted-host "$@"
}

compile "$@" --output-file=requirements/runtime.txt pyproject.toml
compile "$@" --extra=test --build-deps-for=editable -c requirements/runtime.txt --output-file=requirements/test.txt pyproject.toml
compile "$@" --extra=bench -c requirements/test.txt --output-file=requirements/bench.txt pyproject.toml
compile "$@" --output-file=requirements/senders.txt requirements/senders.in
compile "$@" --output-file=requirements/fuzz.txt requirements/fuzz.in
compile "$@" --output-file=requirements/scan.txt requirements/scan.in
compile "$@" --output-file=requirements/proxies.txt requirements/proxies.in
