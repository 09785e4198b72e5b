"""kill -9 at any moment, again and again, changes nothing: the losses are those of a run that nobody killed."""
from pathlib import Path

import pytest
from helpers.driven_runs import drive


@pytest.mark.slow
def test_fifty_kills_at_random_moments_change_no_bit_of_any_loss(tmp_path: Path):
    answer = drive('kill', tmp_path, attempts=50, iterations=120, accumulate=2, save_every=3)
    said = (tmp_path / 'killed.log').read_text()
    assert answer['deaths'] == 50
    assert set(answer['codes']) == {0}, said[-3000:]
    whole, *others = answer['losses']
    assert len(whole) == 120
    assert len(set(whole)) == 120
    assert all(losses == whole for losses in others)
    assert said.count('resumed epoch') > 15  # many kills fall into the start
    assert answer['left'] == ['iter_118.pth', 'iter_120.pth']
