# The study's jobs on several GPUs of one host, by Snakemake (pip install snakemake, into any environment):
#
#   snakemake --cores 16 --resources gpu=4 --rerun-triggers mtime --rerun-incomplete --keep-going \
#             --config profile=paper seeds=0-7 data_dir=/data
#
# `profile` may be a .toml profile or a .json table of commands; `python` is the study's Python where it is neither that
# of .venv nor Snakemake's own. Another run goes on where one ended; after a SIGKILL, `snakemake --unlock` comes first.
#
# One rule for all jobs. Its files are stamps named by the jobs' keys, set from the store whenever this file is read: an
# artefact declared as an output would be deleted whenever its rule runs again.
import json
import math
import os
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(workflow.basedir)
OWN = ROOT / ".venv" / "bin" / "python"
PYTHON = str(config.get("python") or (OWN if OWN.exists() else sys.executable))
GIVEN = {"seeds": "--seeds", "device": "--device", "data_dir": "--data-dir"}
OPTIONS = [str(word) for name, option in GIVEN.items() if name in config for word in (option, config[name])]
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))

asked = subprocess.run(
    [PYTHON, "-m", "distill_lib", "stamps", str(config.get("profile", "quick")), *OPTIONS],
    stdout=subprocess.PIPE, text=True,
)
if asked.returncode:  # it has said why
    sys.stdout.flush()
    os._exit(asked.returncode)
TABLE = json.loads(asked.stdout)
JOBS, STAMP = TABLE["jobs"], TABLE["stamps"] + "/{key}"


def job(wildcards):
    return JOBS[wildcards.key]


rule all:
    input:
        [STAMP.format(key=key) for key in JOBS],


rule job:
    input:
        lambda wildcards: [STAMP.format(key=key) for key in job(wildcards)["needs"]],
    output:
        touch(STAMP),
    wildcard_constraints:
        key="[0-9a-f]{16}",
    threads: lambda wildcards: job(wildcards)["cores"]
    resources:
        gpu=lambda wildcards: job(wildcards)["gpus"],
        mem_mb=lambda wildcards: job(wildcards)["memory_mb"] or 1000,
        runtime=lambda wildcards: math.ceil(job(wildcards)["minutes"] or 60),
    params:
        root=shlex.quote(str(ROOT)),
        python=shlex.quote(PYTHON),
        name=lambda wildcards: job(wildcards)["name"],
        gpus=lambda wildcards: job(wildcards)["gpus"],
        command=lambda wildcards: shlex.join(job(wildcards)["command"]),
    message:
        "{params.name}"
    shell:
        "cd {params.root} && exec {params.python} -m distill_lib.study.table.slots {params.gpus} {params.command}"
