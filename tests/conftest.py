"""What all tests share."""

import os

# What a test computes is small: other processes would take longer to start.
os.environ["DISTILL_WORKERS"] = "1"
