"""What cannot be read is counted over all workers and listed once each, whoever meets it."""
from multiprocessing import get_context

import pytest

from mae_backbone.data.bad_images import BadImages
from mae_backbone.data.decode import BadImage


def test_each_is_listed_once_over_runs_and_objects(tmp_path):
    file = tmp_path / 'bad_images.txt'
    for _ in range(2):
        for _ in range(2):
            bad = BadImages(0.01)
            bad.list_file = file
            for index, name in enumerate(['a.jpg', 'ünï/ç 日本.jpeg', 'tab\tline\nend.png', 'not\udcffutf8.png']):
                bad.add(index, name, f'{name} is empty')
    assert file.read_text('utf-8').splitlines() == [
        'a.jpg\ta.jpg is empty', 'ünï/ç 日本.jpeg\tünï/ç 日本.jpeg is empty',
        r'tab\tline\nend.png' + '\t' + r'tab\tline\nend.png is empty',
        r'not\udcffutf8.png' + '\t' + r'not\udcffutf8.png is empty']


def _meet_all(bad: BadImages, first: int) -> None:
    for i in range(50):
        index = (first + i) % 50
        bad.add(index, f'{index}.jpg', 'x' * 10_000)


def test_processes_that_meet_the_same_at_once_write_whole_lines_once(tmp_path):
    bad = BadImages(0.01)
    bad.list_file = tmp_path / 'bad_images.txt'
    processes = [get_context('fork').Process(target=_meet_all, args=(bad, first)) for first in (0, 0, 25)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    lines = bad.list_file.read_text().splitlines()
    assert sorted(int(line.split('.')[0]) for line in lines) == list(range(50))
    assert all(line.endswith('\t' + 'x' * 10_000) for line in lines)


def test_counts_are_shared_and_decide(tmp_path):
    bad = BadImages(0.1)
    bad.saw(100)
    process = get_context('fork').Process(target=bad.saw, args=(50,), kwargs={'bad': 20})
    process.start()
    process.join()
    assert bad.counts == (150, 20)
    bad.check(1000)  # 15 expected, 3.9 * 3 more allowed
    bad.saw(10, bad=10)
    with pytest.raises(BadImage, match=r'30 of 160 images .*max_bad_share=0\.1 '):
        bad.check(1000)
