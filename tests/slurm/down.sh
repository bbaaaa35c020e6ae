#!/usr/bin/env bash
# Ends what up.sh started in FOLDER, with the jobs that are on it, and removes the folder.
set -u
[ $# = 1 ] || { echo "usage: down.sh FOLDER" >&2; exit 2; }
[ -d "$1" ] || exit 0
folder=$(cd "$1" && pwd -P)
[ -e "$folder/slurm.conf" ] || [ -d "$folder/munge" ] || { echo "down.sh: no Slurm in '$folder'" >&2; exit 2; }

# A process is ours if it runs on our settings: a daemon, or a job's (which inherits SLURM_CONF and has a number).
ours() {
  for pid in $(pgrep -x 'slurmctld|slurmd|slurmstepd|munged'); do
    ls -l "/proc/$pid/fd" 2>/dev/null | grep -qF -- "-> $folder/" && echo "$pid"
  done
  for each in $(grep -lszxF "SLURM_CONF=$folder/slurm.conf" /proc/[0-9]*/environ); do
    grep -qsz '^SLURM_JOB_ID=' "$each" && basename "$(dirname "$each")"
  done
}

# The daemons before the jobs, and at once: nothing is worth saving, and a controller would start the next job.
for _ in 1 2 3 4 5; do
  found=$(ours)
  [ -z "$found" ] && break
  # shellcheck disable=SC2086 # words are meant
  kill -KILL $found 2>/dev/null
  sleep 0.1
done
rm -rf "$folder"
