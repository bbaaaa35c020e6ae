"""One training loop, the contrastive and supervised objectives, checkpoints, device and precision."""
