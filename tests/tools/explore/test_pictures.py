"""Pictures are checked by their pixels."""

import io
from dataclasses import replace

import numpy as np
import torch
from PIL import Image

from distill_lib.tools.explore.pictures import (
    GAP,
    MAP,
    SMALL,
    MapPicture,
    attention_strip,
    enlarged,
    neighbour_strip,
    png,
)


def differs(one, two):
    return np.argwhere((np.asarray(one) != np.asarray(two)).any(-1))


def test_an_enlarged_image_has_the_same_pixels(bank):
    picture = np.asarray(enlarged(bank.images[0], 288))
    assert picture.shape == (288, 288, 3)
    assert np.array_equal(picture[4::9, 4::9], bank.images[0].numpy().transpose(1, 2, 0))


def test_png_gives_the_picture_back(bank):
    picture = enlarged(bank.images[0])
    assert not len(differs(Image.open(io.BytesIO(png(picture))), picture))


def test_a_move_changes_the_picture_where_the_square_was_and_is(explorer):
    state = replace(explorer.start(), column=0, row=0, size=8)
    pictures = [enlarged(explorer.show(each).image) for each in (state, replace(state, column=16))]
    changed = differs(*pictures)
    assert changed[:, 0].max() < 8 * 9  # rows 0 to 7 of 32, nine pixels each
    assert changed[:, 1].max() >= 16 * 9


def test_attention_is_brightest_where_it_is_highest_and_outlines_the_square(explorer):
    shown = explorer.show(explorer.start())
    strip = np.asarray(attention_strip(shown)).astype(int)
    assert strip.shape == (SMALL, 4 * SMALL + 3 * GAP, 3)
    unmarked = replace(shown, state=replace(shown.state, stamped=False))
    bare = np.asarray(attention_strip(unmarked)).astype(int)
    cells = shown.attention["stage1"].shape[0]
    middle = [int((each + 0.5) * SMALL / cells) for each in divmod(int(shown.attention["stage1"].argmax()), cells)]
    brightness = bare[:SMALL, :SMALL].sum(-1)
    assert brightness[tuple(middle)] == brightness.max()
    rows, columns = np.argwhere((strip != bare).any(-1)).T
    left = columns < SMALL
    edges = (rows[left].min(), rows[left].max(), columns[left].min(), columns[left].max())
    assert edges == (63, 92, 63, 92)  # pixels 21 to 30 of 32, three times larger


def test_neighbours_stand_side_by_side(explorer, bank):
    shown = explorer.show(explorer.start())
    strip = neighbour_strip(shown, bank)
    second = strip.crop((SMALL + GAP, 0, 2 * SMALL + GAP, SMALL))
    assert not len(differs(second, enlarged(bank.images[shown.neighbours[1][0]], SMALL)))


def test_the_map_is_drawn_once_and_marks_the_image(explorer, bank):
    drawn = MapPicture(explorer.subject("attacked"), bank)
    shown = explorer.show(explorer.start())
    picture = drawn.drawn(shown)
    assert picture.size == (MAP, MAP)
    x, y = drawn._at(shown.position)
    changed = differs(picture, drawn.base)
    assert (np.abs(changed - (y, x)).max(1) <= 10).any()
    elsewhere = replace(shown, position=tuple(explorer.subject("attacked").points[9].tolist()))
    assert len(differs(drawn.drawn(elsewhere), picture))
    assert len(differs(drawn.drawn(shown), picture)) == 0  # the base stays as it was


def test_every_point_lies_on_the_map(explorer, bank):
    subject = explorer.subject("clean")
    drawn = MapPicture(subject, bank)
    places = torch.tensor([drawn._at(point) for point in subject.points.tolist()])
    assert places.min() >= 10
    assert places.max() <= MAP - 10
