"""The clock: seconds, after everything that the device was asked to do."""

import time

import torch


def now(device: torch.device) -> float:
    """Seconds since some moment, once the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
