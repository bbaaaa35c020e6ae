"""The study as a table of jobs: what each makes and wants, how it is known to be done, how any engine runs it."""
