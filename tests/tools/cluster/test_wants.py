from distill_lib.study.jobs import Job
from distill_lib.tools.cluster.wants import cost, described


def test_a_job_in_words():
    job = Job("fill", needs=("a", "b", "c", "d", "e"), gpus=2, minutes=90, memory_mb=4000)
    assert described(job) == "fill (2 GPUs, 1 h 30 min, 4000 MB; after a, b, c, 2 others)"
    assert described(Job("x", needs=("a",))) == "x (after a)"
    assert described(Job("x")) == "x"


def test_the_cost_counts_gpus_and_the_longest_chain():
    jobs = [Job("a", gpus=2, minutes=60), Job("b", minutes=30, needs=("a",)), Job("c", minutes=10), Job("d")]
    assert cost(jobs) == (
        "they may take 2 h 00 min of GPUs, 40 min 00 s without a GPU, 1 job of unknown length; "
        "the longest chain 1 h 30 min"
    )
