"""Scenes as ten numbers: drawn again they are what their captions say, and stand where they stood."""

import pytest
import torch

from helpers import data
from helpers.data.parts_of_scenes import PLACES, SCENE_COLUMNS, SCENE_LEVELS, draw_parts, scene_parts
from helpers.data.shapes import GROUND


@pytest.fixture(scope="module")
def part():
    return data.scenes(n=500).train


def test_the_numbers_are_what_the_captions_say(part):
    parts, scenes = scene_parts(part), data.scenes(n=500)
    assert parts.shape == (500, 10) and len(SCENE_COLUMNS) == len(SCENE_LEVELS) == 10
    colours, shapes = scenes.labels["colour"], scenes.labels["shape"]
    for row, caption in zip(parts.tolist(), part.texts, strict=True):
        assert colours[row[0]] in caption and shapes[row[1]] in caption
        first = f"{colours[row[0]]} {shapes[row[1]]}"
        assert caption.removeprefix("a ").removeprefix("small ").removeprefix("large ").startswith(first)
        alone = row[5] == len(colours)
        assert alone == (row[5:] == [n - 1 for n in SCENE_LEVELS[5:]])
        assert alone or f"{colours[row[5]]} {shapes[row[6]]}" in caption
        if " left of " in caption:
            assert row[3] < row[8]
        if " below " in caption:
            assert row[4] > row[9]


def test_drawn_again_they_agree_with_their_captions_and_nearly_with_themselves(part):
    parts = scene_parts(part)
    again = draw_parts(parts)
    assert again.dtype == torch.uint8 and again.shape == part.x.shape
    assert (data.caption_score(again, part.texts) == 1).float().mean() > 0.99
    difference = (again.float() - part.x.float()).abs().mean()
    others = (again.roll(1, 0).float() - part.x.float()).abs().mean()
    assert difference < 0.4 * others
    mirrored = parts.clone()
    mirrored[:, 3] = PLACES - 1 - parts[:, 3]  # mutant: across from the right
    assert (data.caption_score(draw_parts(mirrored), part.texts) == 1).float().mean() < 0.9


def test_no_second_object_is_drawn_where_a_column_says_so(part):
    parts = scene_parts(part)
    both = parts[parts[:, 5] < 7][:50]
    for column in range(5, 10):
        gone = both.clone()
        gone[:, column] = SCENE_LEVELS[column] - 1
        none = both.clone()
        none[:, 5:] = torch.tensor(SCENE_LEVELS[5:]) - 1
        assert torch.equal(draw_parts(gone), draw_parts(none))
        assert not torch.equal(draw_parts(gone), draw_parts(both))
    assert (draw_parts(both)[:, 0, 0] == torch.tensor(GROUND)).all(1).float().mean() > 0.9


def test_refusals(part):
    for bad in (torch.zeros(2, 9, dtype=torch.int64), torch.zeros(2, 10), None, torch.zeros(10, dtype=torch.int64)):
        with pytest.raises(ValueError, match="whole numbers"):
            draw_parts(bad)
    for column, value in ((0, 7), (3, PLACES), (8, PLACES + 1), (1, -1)):
        bad = scene_parts(part)[:2]
        bad[1, column] = value
        with pytest.raises(ValueError, match=SCENE_COLUMNS[column]):
            draw_parts(bad)
    with pytest.raises(ValueError, match="captioned"):
        scene_parts(data.scenes("detection", n=20).train)
    with pytest.raises(ValueError, match="captioned"):
        scene_parts(data.digits().train)
