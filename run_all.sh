#!/usr/bin/env bash
# The whole study on one command; see --help. Works from any folder.
set -u

show_help() {
  cat <<'HELP'
usage: ./run_all.sh [options]

Runs the study's notebooks in sequence, makes its tables and figures, and ends with the headline table and a report,
figures/<profile>/index.html, which has all of it on one page.
What an earlier run finished is skipped; an interrupted one goes on where it was. The first start builds the
Python environment in .venv, unless an active one has everything that the study needs.

  --profile NAME    quick   built-in images, small encoder, CPU (the default)
                    laptop  real CIFAR-10 and GTSRB, small encoder, CPU
                    gpu     real images, ResNet-18, one GPU
                    paper   the published schedules
  --seeds SEEDS     seeds in place of the profile's: 3 or 0-5 or 0,2,4
  --only NOTEBOOKS  only these notebooks and what they need: 01_attack,04_loss
  --device DEVICE   auto, cpu, cuda or cuda:N in place of the profile's
  --workers N       cells computed at once; one a core by default (at most 4), one on a GPU
  --data-dir PATH   the folder of image archives (PATH/<name>/train.npz and test.npz) and downloads
  --list            list the jobs (of all profiles, or of --profile) and stop
  --dry-run         say which jobs would run and which are done, and stop
  --setup           only build the environment
  --help            this text
HELP
}

setup_only=
for word in "$@"; do
  case $word in
    --help|-h) show_help; exit 0 ;;
    --setup) setup_only=yes ;;
    --profile|--seeds|--only|--device|--workers|--data-dir|--list|--dry-run) ;;
    --profile=*|--seeds=*|--only=*|--device=*|--workers=*|--data-dir=*) ;;
    -[!0-9]*) echo "run_all.sh: unknown option '$word'; allowed: --profile, --seeds, --only, --device," \
              "--workers, --data-dir, --setup, --list, --dry-run, --help" >&2; exit 2 ;;
  esac
done

. "$(dirname "${BASH_SOURCE[0]}")/scripts/environment.sh"
# shellcheck disable=SC2119 # the script's own arguments are not meant
pick_python
if [ -n "$setup_only" ]; then
  echo "environment: $PY"
  exit 0
fi
exec "$PY" -m distill_lib run "$@"
