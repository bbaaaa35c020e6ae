"""Classifiers on frozen features: the paper's head, a linear probe, nearest neighbours."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize


@dataclass(frozen=True)
class HeadConfig:
    """The downstream head, 512-256 as in BadEncoder.

    Attributes:
        hidden: Widths of the two hidden layers.
        dropout: After the first.
        epochs: BadEncoder: 500 at batch 64, lr 1e-4, unshuffled; here fewer, at a higher rate [ours].
        batch: Images a step.
        lr: Of Adam.
    """

    hidden: tuple[int, int] = (512, 256)
    dropout: float = 0.5
    epochs: int = 60
    batch: int = 128
    lr: float = 1e-3


class Head(nn.Module):
    """L2-normalised features -> 512 -> 256 -> classes."""

    def __init__(self, dimension: int, classes: int, config: HeadConfig):
        super().__init__()
        first, second = config.hidden
        self.layers = nn.Sequential(
            nn.Linear(dimension, first),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(first, second),
            nn.ReLU(),
            nn.Linear(second, classes),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Scores (B, classes) of features (B, D)."""
        return self.layers(normalize(features, dim=1))


def train_head(features: Tensor, labels: Tensor, classes: int, config: HeadConfig, seed: int) -> Head:
    """A head trained with cross-entropy on cached features; in eval mode.

    Args:
        features: (N, D) of the frozen encoder, on any device; they are L2-normalised here.
        labels: int64 (N,), there too.
        classes: How many there are.
        config: Settings.
        seed: Of weights, order and dropout; the global generator is left as it was.
    """
    with torch.random.fork_rng(devices=[features.device] if features.is_cuda else []):
        torch.manual_seed(seed)
        head = Head(features.shape[1], classes, config).to(features.device)
        features = normalize(features, dim=1)  # once, not at each step
        optimiser = torch.optim.Adam(head.parameters(), config.lr, fused=True)
        for _ in range(config.epochs):
            order = torch.randperm(len(features), device=features.device)
            for rows in order.split(config.batch):
                loss = cross_entropy(head.layers(features[rows]), labels[rows])
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()
    return head.eval()


class LinearProbe:
    """Ridge regression to one-hot labels on standardised, L2-normalised features: closed form, no schedule to tune.

    Args:
        features: (N, D).
        labels: int64 (N,).
        classes: How many there are.
        ridge: Penalty a feature, as a share of N [ours].
    """

    def __init__(self, features: Tensor, labels: Tensor, classes: int, ridge: float = 1e-2):
        rows = normalize(features, dim=1).double()
        self.mean, self.scale = rows.mean(0), rows.std(0).clamp_min(1e-6)
        rows = (rows - self.mean) / self.scale
        targets = torch.nn.functional.one_hot(labels, classes).double()
        self.bias = targets.mean(0)
        gram = rows.T @ rows + ridge * len(rows) * torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device)
        self.weight = torch.linalg.solve(gram, rows.T @ (targets - self.bias))

    def __call__(self, features: Tensor) -> Tensor:
        """Scores (B, classes)."""
        return ((normalize(features, dim=1).double() - self.mean) / self.scale) @ self.weight + self.bias


class NearestNeighbours:
    """Weighted k nearest neighbours by cosine (Wu et al., CVPR 2018), as SimCLR code bases report it.

    Args:
        features: (N, D).
        labels: int64 (N,).
        classes: How many there are.
        k: Neighbours asked, at most N; BadEncoder's release: 200.
        temperature: Of the weights exp(cosine / temperature) [ours].
    """

    def __init__(self, features: Tensor, labels: Tensor, classes: int, k: int = 20, temperature: float = 0.5):
        self.bank, self.labels, self.classes = normalize(features, dim=1), labels, classes
        self.k, self.temperature = min(k, len(features)), temperature

    def __call__(self, features: Tensor) -> Tensor:
        """Scores (B, classes)."""
        parts = []
        for rows in normalize(features, dim=1).split(1024):
            near = (rows @ self.bank.T).topk(self.k)
            scores = torch.zeros(len(rows), self.classes, device=rows.device)
            parts.append(scores.scatter_add_(1, self.labels[near.indices], (near.values / self.temperature).exp()))
        return torch.cat(parts)


# name -> (features, labels, classes, head settings, seed) -> scores of features
PROBES = {
    "head": train_head,
    "linear": lambda features, labels, classes, config, seed: LinearProbe(features, labels, classes),
    "knn": lambda features, labels, classes, config, seed: NearestNeighbours(features, labels, classes),
}


@torch.no_grad()
def margins(scores: Tensor, target: int) -> Tensor:
    """Score of the target class minus the best other one, (N,)."""
    others = scores.clone()
    others[:, target] = -torch.inf
    return scores[:, target] - others.amax(1)
