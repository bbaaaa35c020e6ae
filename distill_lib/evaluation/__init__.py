"""What is measured and how it is judged: probes, rates, statistics, verdicts, published numbers.

Nothing is imported here, so that tables and figures can be read where there is no torch.
"""
