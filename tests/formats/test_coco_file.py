"""Reading and validation of annotation files."""
import gc
import json
import random
import tracemalloc
from pathlib import Path

import pytest
from helpers.mmdet_datasets import coco_dataset
from helpers.small_sets import coco_content, write_coco

from mae_backbone.formats.coco_file import read_coco
from mae_backbone.formats.dataset_spec import DataError

JUNK = (None, True, -1, 0, 2.5, 10**400, float('nan'), '', 'text', [], {}, [1, 2], [1, 2, 3, float('inf')], 7, 99)


@pytest.mark.parametrize('seed', range(3))
def test_accepted_files_load_in_mmdet(tmp_path: Path, seed: int) -> None:
    """Entries with arbitrary values are either refused with a message, or mmdet reads them."""
    rng, passed = random.Random(seed), 0
    for i in range(40):
        content = coco_content()
        for _ in range(rng.choice((1, 1, 2))):
            spoil(content, rng)
        path = tmp_path / f'{i}.json'
        path.write_text(json.dumps(content), encoding='utf-8')
        try:
            read_coco(str(path))
        except DataError:
            continue
        coco_dataset(path)
        passed += 1
    assert 0 < passed < 40


def spoil(content: dict, rng: random.Random) -> None:
    key = rng.choice(list(content))
    if rng.random() < 0.2:
        content[key] = rng.choice((*JUNK, [1], [None]))
    elif isinstance(content[key], list) and content[key] and isinstance(content[key][0], dict):
        entry = rng.choice(content[key])
        name = rng.choice(list(entry) or ['id'])
        if rng.random() < 0.5:
            entry[name] = rng.choice(JUNK)
        else:
            entry.pop(name, None)


def test_files_are_read_again_only_after_a_change(tmp_path: Path) -> None:
    path = write_coco(tmp_path)
    first = read_coco(str(path))
    assert read_coco(str(path)) is first
    path.write_text(json.dumps(coco_content() | {'annotations': []}), encoding='utf-8')
    assert not read_coco(str(path)).num_boxes
    assert gc.isenabled()


def test_nothing_that_was_parsed_from_an_object_stays_in_memory(tmp_path: Path) -> None:
    """A kept number would keep the memory around it: the process would not become smaller after reading."""
    content, count = coco_content(), 20_000
    content['annotations'] = [dict(id=1000 + i, image_id=1 + i % 2, category_id=7, bbox=[i % 20, 0, 2 + i / count, 2],
                                   area=4) for i in range(count)]
    path = write_coco(tmp_path, content)
    tracemalloc.start()
    try:
        file = read_coco(str(path))
        snapshot = tracemalloc.take_snapshot()
    finally:
        tracemalloc.stop()
    assert file.num_boxes[7] == count
    parsed = snapshot.filter_traces([tracemalloc.Filter(True, json.decoder.__file__)])
    assert sum(trace.size for trace in parsed.traces) / count < 4


@pytest.mark.parametrize(('text', 'words'), [
    (b'', 'is empty'), (b'\x1f\x8b\x08\x00\xff', 'not JSON: byte 1 is not text'),
    (b'version https://git-lfs', 'is a pointer of Git LFS'), (b'\xef\xbb\xbf{}', "no list 'images'"),
    (b'[' * 100_000, 'not JSON'), (b'[]', 'contains a list'),
    (b'{"info": 1}', "no list 'images', it contains the keys info"),
    (b'{"images": [], "categories": []}', "'images' is empty"),
    (b'{"images": [{"id": ' + b'9' * 5000 + b'}]}', 'not JSON')])
def test_files_in_another_format_are_refused(tmp_path: Path, text: bytes, words: str) -> None:
    (tmp_path / 'x').mkdir()
    path = tmp_path / 'x' / 'train.json'
    path.write_bytes(text)
    with pytest.raises(DataError) as caught:
        read_coco(str(path))
    assert words in str(caught.value)


def test_truncated_files_are_recognized(tmp_path: Path) -> None:
    path = write_coco(tmp_path)
    text = path.read_text(encoding='utf-8')
    for length in range(1, len(text) - 1, 97):
        path.write_text(text[:length], encoding='utf-8')
        with pytest.raises(DataError) as caught:
            read_coco(str(path))
        assert ('is truncated after' in str(caught.value)) == (not text[:length].endswith('}')), text[:length]


def test_messages_show_no_content_of_the_file(tmp_path: Path) -> None:
    for text in ('root:x:0:0', '{"root:x:0:0', '"root:x:0:0"'):
        path = tmp_path / 'secret.json'
        path.write_text(text)
        with pytest.raises(DataError) as caught:
            read_coco(str(path))
        assert 'root' not in str(caught.value).replace(str(path), '')
