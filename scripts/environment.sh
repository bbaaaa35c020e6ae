# Sourced by run_all.sh and run_tests.sh (bash 3.2 and later): find or build the Python environment.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"

die() { echo "$*" >&2; exit 2; }

is_supported() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; }

# has_everything PYTHON [PACKAGE ...]: its environment has the study's dependencies, and these packages
has_everything() {
  is_supported "$1" || { echo "$1 is no Python 3.11 to 3.13" >&2; return 1; }
  "$1" "$root/scripts/environment.py" check "${@:2}"
}

python_in() {  # the interpreter of the environment in folder $1
  local path
  for path in "$1/bin/python" "$1/Scripts/python.exe" "$1/python.exe"; do
    [ -x "$path" ] && { echo "$path"; return; }
  done
  return 1
}

# pick_python [PACKAGE ...]: set PY to the interpreter to use. An environment at hand that has everything is used as
# it is (a cluster's own torch is not replaced); otherwise .venv, built if need be.
pick_python() {
  local folder note notes=""
  for folder in "${VIRTUAL_ENV:-}" "${CONDA_PREFIX:-}"; do
    PY=$([ -n "$folder" ] && python_in "$folder") || continue
    note=$(has_everything "$PY" "$@" 2>&1) && return
    notes+="${note:+$note: passed over$'\n'}"
  done
  for PY in python python3; do
    PY=$(command -v "$PY") && has_everything "$PY" "$@" 2>/dev/null && return
  done
  PY=$(python_in "$root/.venv") && has_everything "$PY" "$@" 2>/dev/null && return
  printf '%s' "$notes" >&2  # said only here, where passing over the active environment costs a set-up
  build_environment
}

build_environment() {
  local base
  base=$(find_base) || die "Python 3.11, 3.12 or 3.13 is needed, and none is on the PATH: install one of them"
  "$base" "$root/scripts/environment.py" build || exit
  PY=$(python_in "$root/.venv")
}

find_base() {  # the first supported Python on the PATH, or one that uv keeps
  local name path
  for name in python3 python python3.13 python3.12 python3.11; do
    while IFS= read -r path; do
      is_supported "$path" && { echo "$path"; return; }
    done < <(type -ap "$name")
  done
  path=$(uv python find --no-python-downloads '>=3.11,<3.14' 2>/dev/null) && echo "$path"
}
