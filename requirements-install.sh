#!/bin/sh
# requirements-install.sh PYTHON LOCK...: install lock files into the environment of PYTHON.
# A lock is complete, so nothing is resolved again; `pip check` notices one that lacks a package.
set -eu
python=$1
shift
for lock; do
    shift
    set -- "$@" --requirement "$lock"
done
"$python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes "$@"
"$python" -m pip check --disable-pip-version-check
