"""What jobs want, in words and in all."""

from collections.abc import Sequence

from distill_lib.study.display import duration
from distill_lib.study.jobs import Job


def described(job: Job) -> str:
    """A job's name and wants: `fill-0 (1 GPU, 12 min, 4000 MB; after pretrain-0)`."""
    wants = [f"{job.gpus} GPU{'s' * (job.gpus > 1)}"] if job.gpus else []
    wants += [duration(60 * job.minutes)] if job.minutes else []
    wants += [f"{job.memory_mb} MB"] if job.memory_mb else []
    needs = [*job.needs[:3], *([f"{len(job.needs) - 3} others"] if len(job.needs) > 3 else [])]
    parts = [", ".join(wants), f"after {', '.join(needs)}" if needs else ""]
    inside = "; ".join(filter(None, parts))
    return f"{job.name} ({inside})" if inside else job.name


def counted(number: int) -> str:
    """`1 job`, `2 jobs`."""
    return f"{number} job{'s' * (number != 1)}"


def cost(jobs: Sequence[Job]) -> str:
    """What jobs may take in all, and one after the other; jobs come after those that they need."""
    on_gpus = sum(60 * job.gpus * (job.minutes or 0) for job in jobs)
    without = sum(60 * (job.minutes or 0) for job in jobs if not job.gpus)
    ends: dict[str, float] = {}
    for job in jobs:
        ends[job.name] = 60 * (job.minutes or 0) + max((ends.get(need, 0) for need in job.needs), default=0)
    amounts = [f"{duration(on_gpus)} of GPUs"] if on_gpus else []
    amounts += [f"{duration(without)} without a GPU"] if without else []
    unknown = sum(job.minutes is None for job in jobs)
    if unknown:
        amounts.append(f"{counted(unknown)} of unknown length")
    return f"they may take {', '.join(amounts)}; the longest chain {duration(max(ends.values(), default=0))}"
