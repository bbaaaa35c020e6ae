#!/usr/bin/env bash
# The tests on one command, in the same environment as run_all.sh.
#   ./run_tests.sh [pytest's arguments]             the suite, without the two kinds below: a process a core (-n 0: one for all)
#   ./run_tests.sh --browser [pytest's arguments]   only the tests that drive a real browser
#   ./run_tests.sh --slurm [pytest's arguments]     only the tests that start a real Slurm
set -u

marks="not browser and not slurm" parallel="-n auto --dist loadfile --no-loadscope-reorder"
case ${1:-} in
  --browser|--slurm) marks=${1#--} parallel=; shift ;;
esac

. "$(dirname "${BASH_SOURCE[0]}")/scripts/environment.sh"
pick_python "pytest>=8" pytest-timeout pytest-xdist
cd "$root" || exit
# A thread a process: with two, each of which waits for the other while another process has its core, a test took ten
# times as long. The second is what the study shares out among its own workers and their threads.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} LOKY_MAX_CPU_COUNT=${LOKY_MAX_CPU_COUNT:-1}
# shellcheck disable=SC2086 # words are meant
exec "$PY" -m pytest -m "$marks" $parallel "$@"
