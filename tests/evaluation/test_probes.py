"""Probes: the head learns, ridge equals the closed form, neighbours equal a slow loop."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import nn

from distill_lib.evaluation.probes import PROBES, Head, HeadConfig, LinearProbe, NearestNeighbours, margins, train_head

SMALL = HeadConfig((32, 16), epochs=20, batch=16, lr=5e-3)


def blobs(count=90, classes=3, noise=0.3, seed=0):
    """Clusters around right-angled directions, of any length: only directions tell the classes."""
    source = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    features = torch.eye(8)[labels] + noise * torch.randn(count, 8, generator=source)
    return features * (0.1 + 5 * torch.rand(count, 1, generator=source)), labels


def accuracy(scores, labels):
    return (scores.argmax(1) == labels).float().mean().item()


# ---- the head -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["head", "linear", "knn"])
def test_every_probe_learns_what_can_be_learnt(name):
    probe = PROBES[name](*blobs(), 3, SMALL, 0)
    unseen, labels = blobs(seed=1)
    scores = probe(unseen)
    assert scores.shape == (90, 3)
    assert accuracy(scores, labels) > 0.95


@pytest.mark.parametrize("name", ["head", "linear", "knn"])
def test_probes_are_blind_to_the_length_of_features(name):
    probe = PROBES[name](*blobs(), 3, SMALL, 0)
    unseen, _ = blobs(seed=1)
    with torch.no_grad():
        torch.testing.assert_close(probe(7 * unseen), probe(unseen), rtol=1e-4, atol=1e-4)


def test_the_head_is_badencoders():
    head = Head(512, 43, HeadConfig())
    assert [type(each).__name__ for each in head.layers] == ["Linear", "ReLU", "Dropout", "Linear", "ReLU", "Linear"]
    widths = [(each.in_features, each.out_features) for each in head.layers if isinstance(each, nn.Linear)]
    assert widths == [(512, 512), (512, 256), (256, 43)]
    assert head.layers[2].p == 0.5


def test_a_trained_head_answers_alike_each_time():
    head, (unseen, _) = train_head(*blobs(), 3, SMALL, 0), blobs(seed=1)
    assert not head.training
    assert torch.equal(head(unseen), head(unseen))  # no dropout


def test_the_heads_seed_decides_everything():
    first, again, other = (train_head(*blobs(), 3, SMALL, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["layers.0.weight"], other["layers.0.weight"])


def test_the_global_generator_has_no_part_in_it():
    before = torch.get_rng_state()
    first = train_head(*blobs(), 3, SMALL, 1).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)
    again = train_head(*blobs(), 3, SMALL, 1).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_features_given_stay_as_they_were_and_get_no_gradients():
    features, labels = blobs()
    kept = features.clone()
    train_head(features, labels, 3, SMALL, 0)
    assert torch.equal(features, kept)
    assert features.grad is None


def test_a_head_without_epochs_is_its_draw():
    untrained = train_head(*blobs(), 3, HeadConfig((32, 16), epochs=0), 4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        expected = Head(8, 3, HeadConfig((32, 16)))
    assert torch.equal(untrained.layers[0].weight, expected.layers[0].weight)


# ---- ridge ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ridge", [1e-4, 1e-2, 1.0])
def test_the_linear_probe_equals_scikit_learns_ridge(ridge):
    features, labels = blobs(noise=1.0)
    unseen = blobs(noise=1.0, seed=1)[0]
    scores = LinearProbe(features, labels, 3, ridge)(unseen)

    def unit(each):
        rows = each.double().numpy()
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    rows = unit(features)
    mean, scale = rows.mean(0), rows.std(0, ddof=1)
    model = Ridge(alpha=ridge * len(rows)).fit((rows - mean) / scale, np.eye(3)[labels.numpy()])
    np.testing.assert_allclose(scores.numpy(), model.predict((unit(unseen) - mean) / scale), atol=1e-6)


def test_the_linear_probe_survives_constant_features_and_absent_classes():
    features, labels = blobs()
    features = torch.cat([features, torch.zeros(90, 2)], 1)
    scores = LinearProbe(features, labels, 5)(features)
    assert scores.isfinite().all()
    assert accuracy(scores, labels) > 0.95
    torch.testing.assert_close(scores[:, 3:], torch.zeros(90, 2, dtype=scores.dtype))


# ---- neighbours -----------------------------------------------------------------------------------------------------


def neighbours_by_hand(bank, labels, classes, query, k, temperature):
    """Each bank image's cosine in turn; the k nearest vote with exp(cos / temperature)."""
    near = []
    for row, label in zip(bank.double().numpy(), labels.tolist(), strict=True):
        near.append((row @ query / (np.linalg.norm(row) * np.linalg.norm(query)), label))
    scores = np.zeros(classes)
    for similarity, label in sorted(near, reverse=True)[:k]:
        scores[label] += np.exp(similarity / temperature)
    return scores


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.5), (5, 0.07), (20, 0.5), (500, 1.0)])
def test_neighbours_equal_a_slow_loop(k, temperature):
    bank, labels = blobs(60, noise=1.0)
    queries = blobs(1030, noise=1.0, seed=1)[0]  # more than are handled at a time
    scores = NearestNeighbours(bank, labels, 3, k, temperature)(queries)
    assert scores.shape == (1030, 3)
    for row in (0, 1, 500, 1023, 1024, 1029):
        expected = neighbours_by_hand(bank, labels, 3, queries[row].double().numpy(), k, temperature)
        np.testing.assert_allclose(scores[row].numpy(), expected, rtol=2e-5)


def test_the_nearest_neighbour_of_a_bank_image_is_itself():
    bank, labels = blobs(60, noise=1.0)
    assert accuracy(NearestNeighbours(bank, labels, 3, k=1)(bank), labels) == 1.0


# ---- margins --------------------------------------------------------------------------------------------------------


def test_margins():
    scores = torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 5.5], [-1.0, -4.0, -9.0]])
    assert margins(scores, 0).tolist() == [1.0, -5.5, 3.0]
    assert margins(scores, 2).tolist() == [-1.0, 0.5, -8.0]
    assert scores[0].tolist() == [3.0, 1.0, 2.0]


def test_margins_are_positive_exactly_where_the_target_wins():
    scores = torch.randn(100, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    margin = margins(scores, 1)
    assert torch.equal(margin > 0, scores.argmax(1) == 1)
    assert not margin.requires_grad
