"""Measurements of files are cached, and continue after a kill."""
import os

import pytest

from mae_backbone.planning.scan_cache import FileStamp, ScanCache, no_progress


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv('MAE_BACKBONE_CACHE', str(tmp_path / 'cache'))
    for index in range(600):
        (tmp_path / f'{index}.txt').write_text(str(index))
    return tmp_path


class Lengths:
    """A measurement that counts its calls."""

    def __init__(self, stop_after: int = 10**9) -> None:
        self.calls: list[str] = []
        self.stop_after = stop_after

    def __call__(self, path: str) -> list:
        if len(self.calls) >= self.stop_after:
            raise KeyboardInterrupt
        self.calls.append(path)
        return [os.path.getsize(path), os.path.basename(path)]


def measured(folder, lengths: Lengths, kind: str = 'lengths') -> list[list]:
    files = [FileStamp.of(str(folder / f'{index}.txt')) for index in range(600)]
    cache = ScanCache(str(folder))
    try:
        return cache.measure(kind, files, lengths, workers=2, progress=no_progress)
    finally:
        cache.close()


def test_results_are_in_the_order_of_the_files(folder):
    assert measured(folder, Lengths()) == [[len(str(index)), f'{index}.txt'] for index in range(600)]


def test_a_file_is_measured_again_only_if_it_changed(folder):
    before = measured(folder, Lengths())
    (folder / '7.txt').write_text('seventy')
    again = Lengths()
    after = measured(folder, again)
    assert again.calls == [str(folder / '7.txt')]
    assert after[7] == [7, '7.txt']
    assert before[:7] + before[8:] == after[:7] + after[8:]


def test_another_measurement_has_its_own_results(folder):
    measured(folder, Lengths())
    other = Lengths()
    measured(folder, other, kind='others')
    assert len(other.calls) == 600


def test_failures_are_measured_again(folder):
    path = str(folder / '7.txt')
    measured(folder, lambda name: [] if name == path else [1])
    again = Lengths()
    measured(folder, again)
    assert again.calls == [path]


def test_an_interrupted_measurement_continues(folder):
    first, second = Lengths(stop_after=300), Lengths()
    with pytest.raises(KeyboardInterrupt):
        measured(folder, first)
    assert len(measured(folder, second)) == 600
    assert 0 < len(second.calls) <= 600 - 256  # a chunk of 256 files was complete


def test_a_damaged_cache_is_built_again(folder):
    measured(folder, Lengths())
    path = next((folder / 'cache/fingerprints').glob('*.sqlite'))
    path.write_bytes(b'no database' * 1000)
    again = Lengths()
    assert len(measured(folder, again)) == len(again.calls) == 600


def test_without_a_folder_for_the_cache_files_are_measured_all_the_same(folder, monkeypatch):
    blocked = folder / 'file'
    blocked.write_text('')
    monkeypatch.setenv('MAE_BACKBONE_CACHE', str(blocked))
    assert len(measured(folder, Lengths())) == 600
