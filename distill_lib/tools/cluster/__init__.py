"""The job table on Slurm: one `sbatch` for each job that the store lacks, and nothing that has to stay running.

What is done is told by the store, what is under way by the queue, where each job is found by its name. So nothing is
lost when a command ends halfway: the next one sees the same two, and goes on.
"""
