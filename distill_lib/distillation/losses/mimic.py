"""MIMIC's weighting of AT: more weight on the stages that share more information with the encoder's output.

MIMIC is a sibling of arXiv 2403.03846, by some of its authors.

Published: weights 1000 + 10000 x the stage's share of mutual information, a student of random weights, NT-Xent and a
clone term at weight 1. Ours, where the facts at hand are silent [ours]: the information is that between a stage's map,
averaged over places, and the output, both of the teacher on the clean images, estimated as below; a stage's share is
its part of the sum over stages; the clone term is the feature cosine.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from distill_lib.distillation.losses.representation import Representation
from distill_lib.vision.encoders import STAGES

RATIO = 10.0  # 10000 / 1000


def mimic_weights(teacher: Representation, stages: Sequence[str] = STAGES) -> tuple[float, ...]:
    """Weight of each stage over the base weight of 1000: 1 + 10 x the stage's share of mutual information.

    Args:
        teacher: Its outputs (N, D) and maps (N, C, H, W) on some hundreds of clean images.
        stages: In the order of the result.

    Returns:
        One number a stage, from 1 to 11; 1 + 10 / stages for each where no stage has any information.
    """
    found = [information(teacher.maps[stage].float().mean((2, 3)), teacher.output) for stage in stages]
    total = sum(found)
    return tuple(1 + RATIO * (each / total if total > 0 else 1 / len(found)) for each in found)


@torch.no_grad()
def information(first: Tensor, second: Tensor) -> float:
    """Mutual information, in bits, of two representations (N, D1) and (N, D2) of the same N images.

    Matrix-based, of Renyi's order 2 (Sanchez Giraldo, Rao and Principe, IEEE Trans. Information Theory 2015): with A
    and B the Gram matrices of Gaussian kernels over N, I = S(A) + S(B) - S(A o B / tr(A o B)), S(A) = -log2 tr(A A). It
    estimates no density, so that 512 dimensions are no obstacle, and lies between 0 and log2 N.
    """
    a, b = gram(first), gram(second)
    joint = a * b
    return max(0.0, entropy(a) + entropy(b) - entropy(joint / joint.trace()))


def gram(values: Tensor) -> Tensor:
    """(N, D) to the Gram matrix (N, N), trace 1, float64, of a Gaussian kernel as wide as the median distance."""
    distances = torch.cdist(values.double(), values.double())
    pairs = distances[~torch.eye(len(values), dtype=torch.bool, device=values.device)]
    apart = pairs[pairs > 0]
    width = apart.median() if len(apart) else torch.ones((), dtype=torch.float64, device=values.device)
    return (-distances.square() / (2 * width**2)).exp() / len(values)


def entropy(matrix: Tensor) -> float:
    """Renyi's entropy of order 2, in bits, of a symmetric matrix (N, N) of trace 1: 0 to log2 N."""
    return -math.log2(matrix.square().sum().item())
