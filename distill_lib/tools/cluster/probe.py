"""`python -m distill_lib.tools.cluster.probe STORE`: what `doctor` runs on the nodes, in one job.

The first node holds a lock of the store, and meanwhile starts this on the second, which must not get it.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from distill_lib.study import store

SECONDS = 40  # for the second node


def main(argv: list[str]) -> int:
    """Probe from the first node, or (`--second`) from the other, which prints what it finds."""
    if argv[0] == "--second":
        print(json.dumps(_second(Path(argv[1]), Path(argv[2]))))
        return 0
    runs = Path(argv[0])
    result = runs / "cluster" / f"doctor-{os.environ['SLURM_JOB_ID']}.json"
    found = {"first": {**_node(), "writes": _writes(runs)}}
    store.write_json(result, found)
    try:
        with store.exclusive(runs, result.stem) as folder:
            (folder / "hello").write_text("seen")
            found["second"] = _elsewhere(runs, folder)
    except (OSError, ValueError) as error:  # a UsageError is one
        found["first"]["writes"] = str(error)
    store.write_json(result, found)
    found["first"]["torch"] = _torch()  # last: it is slow where the disk is
    store.write_json(result, found)
    return 0


def _node() -> dict[str, Any]:
    name = os.environ.get("SLURMD_NODENAME", socket.gethostname())
    return {"node": name, "device": os.environ.get("CUDA_VISIBLE_DEVICES", "")}


def _writes(runs: Path) -> str:
    """What keeps this node from writing to the store; empty for nothing."""
    path = runs / "cluster" / f"probe.{_node()['node']}.{os.getpid()}"
    try:
        store.write_text(path, "hello")
        path.unlink()
    except OSError as error:
        return os.strerror(error.errno)
    return ""


def _elsewhere(runs: Path, folder: Path) -> dict[str, Any] | None:
    """What the second node finds; None where the job has one alone."""
    names = subprocess.run(
        ["scontrol", "show", "hostnames", os.environ.get("SLURM_JOB_NODELIST", "")], capture_output=True, text=True
    ).stdout.split()
    others = [name for name in names if name != _node()["node"]]
    if not others:
        return None
    words = [sys.executable, "-m", "distill_lib.tools.cluster.probe", "--second", str(runs), str(folder)]
    try:
        done = subprocess.run(
            ["srun", "--nodes=1", "--ntasks=1", f"--nodelist={others[0]}", *words],
            capture_output=True, text=True, timeout=SECONDS, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return {"node": others[0], "error": f"no answer in {SECONDS} seconds"}
    except (IndexError, ValueError):
        return {"node": others[0], "error": (done.stderr.strip().splitlines() or ["no answer"])[-1]}


def _second(runs: Path, folder: Path) -> dict[str, Any]:
    """From the other node: whether the first one's file is seen, and its lock kept."""
    found = {**_node(), "writes": _writes(runs), "sees": (folder / "hello").is_file()}
    try:
        with store.exclusive(runs, folder.name.split(".")[0], patience=1):
            found["locked"] = False
    except store.Busy:
        found["locked"] = True
    return found


def _torch() -> str:
    """What torch finds on this node."""
    try:
        import torch
    except Exception as error:
        return f"cannot be imported: {error}"
    if not torch.cuda.is_available():
        return f"{torch.__version__} sees no GPU"
    return f"{torch.__version__} computes on {torch.cuda.get_device_name()}: {float(torch.ones(2).cuda().sum()):g}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
