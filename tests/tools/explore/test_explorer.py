"""From the handles to what is shown, against slow references; nothing here is a widget."""

from dataclasses import replace

import pytest
import torch

from distill_lib.errors import UsageError
from distill_lib.tools.explore import State
from distill_lib.tools.explore.explorer import NEIGHBOURS
from distill_lib.vision.features import collect, extract, to_unit
from distill_lib.vision.triggers import Patch


def alone(image):
    return image[None]


def test_the_start_is_the_attackers_square_on_an_image_of_another_class(explorer, bank):
    state = explorer.start()
    assert (state.encoder, state.patch, state.stamped) == ("attacked", Patch(), True)
    assert int(bank.labels[state.image]) != bank.target


@pytest.mark.parametrize("change", [{}, {"column": 3}, {"row": 0}, {"size": 4}, {"colour": (9, 8, 7)}, {"image": 7}])
def test_exactly_the_squares_pixels_change(explorer, bank, change):
    state = replace(explorer.start(), **change)
    shown = explorer.show(state)
    inside = torch.zeros(32, 32, dtype=torch.bool)
    inside[state.row : state.row + state.size, state.column : state.column + state.size] = True
    assert shown.image[:, inside].unique(dim=1).T.tolist() == [list(state.colour)]
    assert torch.equal(shown.image[:, ~inside], bank.images[state.image][:, ~inside])


def test_without_the_square_the_image_is_itself(explorer, bank):
    shown = explorer.show(replace(explorer.start(), stamped=False))
    assert torch.equal(shown.image, bank.images[shown.state.image])
    assert shown.kept == pytest.approx(1, abs=1e-5)
    assert shown.prediction == shown.without
    assert shown.position == pytest.approx(shown.origin, abs=1e-3)


@pytest.mark.parametrize("encoder", ["clean", "attacked", "a / b / c"])
def test_the_prediction_is_the_heads_on_the_same_image(explorer, encoder):
    shown = explorer.show(State(encoder, 5, 2, 14, 9, (255, 0, 0)))
    subject = explorer.subject(encoder)
    with torch.no_grad():
        scores = subject.head(extract(subject.encoder, alone(shown.image)))[0]
    torch.testing.assert_close(shown.probabilities, scores.softmax(0))
    assert shown.prediction == int(scores.argmax())


def test_neighbours_are_those_of_a_slow_search(explorer, bank):
    shown = explorer.show(State("attacked", 9, 0, 0, 12))
    encoder = explorer.subject("attacked").encoder
    mine = extract(encoder, alone(shown.image))[0]
    slow = []
    for row, image in enumerate(bank.images):
        other = extract(encoder, alone(image))[0]
        cosine = sum(a * b for a, b in zip(mine.tolist(), other.tolist(), strict=True))
        slow.append((cosine / (float(mine.norm()) * float(other.norm())), row))
    slow = sorted(((c, row) for c, row in slow if row != 9), reverse=True)[:NEIGHBOURS]
    assert [row for row, _ in shown.neighbours] == [row for _, row in slow]
    assert [cosine for _, cosine in shown.neighbours] == pytest.approx([cosine for cosine, _ in slow], abs=1e-4)


def test_attention_and_its_share_by_stage_are_the_maps_own(explorer):
    state = State("clean", 4, 16, 16, 16)  # the lower right quarter: whole cells of every stage but none
    shown = explorer.show(state)
    with torch.no_grad():
        _, maps = collect(explorer.subject("clean").encoder, to_unit(alone(shown.image)))
    for stage, found in maps.items():
        energy = found[0].square().sum(0)
        half = energy.shape[0] // 2
        assert shown.shares[stage] == pytest.approx(100 * float(energy[half:, half:].sum() / energy.sum()), rel=1e-4)
        assert float(shown.attention[stage].sum()) == pytest.approx(1, rel=1e-5)
    assert shown.area == 25


def test_one_move_encodes_one_image(explorer, encoded):
    state = explorer.start()
    for change in ({}, {"column": 4}, {"size": 3}, {"colour": (0, 0, 0)}, {"image": 3}, {"encoder": "clean"}):
        state = replace(state, **change)
        del encoded[:]
        explorer.show(state)
        assert encoded == [1], change


def test_an_encoder_is_made_ready_once(bank, explorer):
    made = []
    explorer._sources["clean"] = lambda make=explorer._sources["clean"]: made.append(1) or make()
    assert not explorer.known("clean")
    for _ in range(3):
        explorer.show(explorer.start("clean"))
    assert explorer.known("clean")
    assert made == [1]


def test_what_is_not_there_is_said(explorer):
    with pytest.raises(UsageError, match="unknown encoder 'nosuch'; allowed: clean, attacked, a / b / c, finetune"):
        explorer.show(State("nosuch"))
    with pytest.raises(UsageError, match="unknown encoder 'nosuch'"):
        explorer.start("nosuch")
    with pytest.raises(UsageError, match="image 24 is not there; allowed: 0 to 23"):
        explorer.show(State("clean", 24))


def test_a_new_point_lies_among_its_nearest_landmarks(explorer):
    subject = explorer.subject("clean")
    features = subject.landmarks[3]
    assert subject.place(features) == pytest.approx(subject.points[3].tolist(), abs=1e-3)
    flat = replace(subject, landmarks=torch.eye(5), points=torch.arange(10.0).view(5, 2))
    new = torch.tensor([0.6, 0.6, 0.4, 0.3, 0.03**0.5])  # of length 1; its cosines with the landmarks
    weights = [1 / (2 - 2 * cosine) for cosine in new.tolist()]
    slow = sum(w * 2 * i for i, w in enumerate(weights)) / sum(weights)
    assert flat.place(new) == pytest.approx((slow, slow + 1), rel=1e-4)


def test_the_grid_of_places_is_that_of_single_images(explorer, bank):
    found = explorer.places(["attacked"], step=11)
    assert found["rows"] == found["columns"] == [10, 21]  # the attacker's place is among them
    rows = bank.others()
    assert found["n"] == len(rows) == 18
    shown = [explorer.show(State("attacked", int(row), 10, 21)) for row in rows]
    hits = sum(each.prediction == bank.target for each in shown)
    assert found["shares"]["attacked"][1][0] == pytest.approx(100 * hits / 18)


def test_the_mean_gaze_is_that_of_single_images(explorer, bank):
    table = explorer.gaze()
    assert list(table.index) == ["clean", "attacked", "a / b / c"]
    shown = [explorer.show(State("clean", int(row))).shares["stage3"] for row in bank.others()]
    assert table.loc["clean", "stage3"] == pytest.approx(sum(shown) / len(shown), rel=1e-4)


def test_views_hold_what_the_figure_draws(explorer):
    views = explorer.views()
    assert list(views) == ["clean", "attacked", "a / b / c"]
    shown = explorer.show(explorer.start("clean"))
    assert views["clean"]["shares"] == shown.shares
    assert len(views["clean"]["points"]) == 24
    assert len(views["clean"]["neighbours"]) == 3
