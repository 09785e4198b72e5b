"""Results of single images: packed without loss; the interval is that of a plain bootstrap."""
import math

import numpy as np
import pytest

from mae_backbone.transfer.image_results import bootstrap, from_text, to_text


@pytest.mark.parametrize('number', [1, 8, 13, 5000])
def test_packing_is_inverted(number: int):
    correct = np.random.default_rng(number).random(number) < 0.4
    packed = to_text(correct)
    assert (from_text(packed) == correct).all()
    assert len(packed['bits']) <= number / 6 + 8


@pytest.mark.parametrize(('packed', 'says'), [
    ({'images': 9, 'bits': 'AA=='}, '8 bits do not hold the results of 9 images'),
    ({'images': 0, 'bits': ''}, '0 bits'), ({'images': 3, 'bits': '!'}, 'base64')])
def test_other_texts_are_refused(packed: dict, says: str):
    with pytest.raises(ValueError, match=says):
        from_text(packed)


def test_the_interval_is_that_of_images_drawn_again():
    chance = np.random.default_rng(0)
    ours, theirs = (list(chance.random((3, 400)) < level) for level in (0.7, 0.6))
    found = bootstrap(ours, theirs)
    mean = 100 * (np.mean(ours) - np.mean(theirs))
    drawn = chance.integers(400, size=(4000, 400))
    plain = 100 * (np.mean(ours, axis=0) - np.mean(theirs, axis=0))[drawn].mean(axis=1)
    assert found == pytest.approx(np.quantile(plain, [0.025, 0.975]), abs=0.4)
    spread = 100 * np.std(np.mean(ours, axis=0) - np.mean(theirs, axis=0)) / math.sqrt(400)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * spread, rel=0.1)
    assert found.low < mean < found.high
    assert bootstrap(ours, ours) == (0.0, 0.0)


def test_other_images_are_not_compared():
    assert bootstrap([np.ones(3, bool)], [np.ones(4, bool)]) is None
    assert bootstrap([np.ones(3, bool)], []) is None
    assert bootstrap([], []) is None
