"""Generated scenes on disk: what was rendered, in the formats of three tasks, complete or not at all."""
import json

import cv2
import numpy as np
import pytest
from pycocotools import mask as rle
from pycocotools.coco import COCO

from mae_backbone.quickstart import scene_files, scenes

FEW = {'unlabeled': 3, 'train': 16, 'val': 8, 'size': 64}


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp('written') / 'data'
    scene_files.write_scenes(root, **FEW)
    return root


def contents(root) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob('*') if path.is_file()}


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
@pytest.mark.parametrize('split', ['train', 'val'])
def test_coco_file_decodes_to_the_rendered_masks(written, split):
    coco = COCO(written / f'annotations/instances_{split}.json')
    stream = {'train': 1, 'val': 2}[split]
    assert [coco.cats[i]['name'] for i in sorted(coco.cats)] == list(scenes.CLASSES)
    assert sorted(coco.anns) == list(range(1, len(coco.anns) + 1))
    assert sorted(coco.imgs) == list(range(1, FEW[split] + 1))
    for image, seed in zip(coco.loadImgs(sorted(coco.imgs)), scene_files._seeds(0, stream), strict=False):
        scene = scenes.render_scene(seed, size=64)
        annotations = coco.loadAnns(coco.getAnnIds(image['id']))
        np.testing.assert_array_equal([coco.annToMask(item) for item in annotations], scene.masks)
        assert [item['category_id'] - 1 for item in annotations] == scene.labels.tolist()
        assert [item['area'] for item in annotations] == scene.masks.sum((1, 2)).tolist()
        assert all(item['iscrowd'] == 0 and isinstance(item['segmentation']['counts'], str) for item in annotations)
        for item, mask in zip(annotations, scene.masks, strict=True):
            assert item['bbox'] == tight_box(mask)
            assert rle.area(item['segmentation']) == item['area']


def tight_box(mask: np.ndarray) -> list[int]:
    """The first and last row and column with a pixel, by a plain loop: x, y, width, height."""
    pixels = [(x, y) for y, row in enumerate(mask.tolist()) for x, inside in enumerate(row) if inside]
    columns, rows = zip(*pixels, strict=True)
    return [min(columns), min(rows), max(columns) - min(columns) + 1, max(rows) - min(rows) + 1]


def test_files_hold_the_rendered_scenes(written):
    for index, seed in zip(range(FEW['train']), scene_files._seeds(0, 1), strict=False):
        scene = scenes.render_scene(seed, size=64)
        segments = cv2.imread(str(written / f'segments/train/{index:06d}.png'), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(segments, scene.segments)
        image = cv2.imread(str(written / f'images/train/{index:06d}.jpg'))[:, :, ::-1]
        assert abs(image.astype(int) - scene.image).mean() < 3  # of 255, what JPEG loses
    assert (written / 'classes.txt').read_text(encoding='utf-8').split() == list(scenes.SEGMENTS)


def test_folders_have_the_requested_numbers(written):
    files = list(contents(written))
    assert len(files) == 3 + 3 * 16 + 3 * 8 + 2 + 2  # + annotations, classes.txt and the stamp
    for split in ('train', 'val'):
        folders = sorted(path.name for path in (written / 'classes' / split).iterdir())
        assert folders == list(scenes.CLASSES)
        assert all(len(list((written / 'classes' / split / name).iterdir())) == FEW[split] // 8 for name in folders)


def test_no_image_is_in_two_places(written):
    images = [data for name, data in contents(written).items() if name.endswith('.jpg')]
    assert len(set(images)) == len(images)


def test_writing_is_deterministic_and_more_images_do_not_change_the_first(written, tmp_path):
    scene_files.write_scenes(tmp_path / 'again', **FEW)
    assert contents(tmp_path / 'again') == contents(written)
    scene_files.write_scenes(tmp_path / 'more', **{**FEW, 'unlabeled': 5, 'train': 24})
    first = {name: data for name, data in contents(written).items() if name.endswith(('.jpg', '.png'))}
    assert first.items() <= contents(tmp_path / 'more').items()


def test_another_seed_writes_other_images(written, tmp_path):
    scene_files.write_scenes(tmp_path / 'other', **FEW, seed=1)
    ours, others = ({data for name, data in contents(root).items() if name.endswith(('.jpg', '.png'))}
                    for root in (written, tmp_path / 'other'))
    assert not ours & others


@pytest.mark.parametrize('error', [OSError('disk full'), KeyboardInterrupt()])
def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch, error):
    def fail(*args, **kwargs):
        raise error
    monkeypatch.setattr(scene_files, 'render_object', fail)  # the last kind of image of each split
    with pytest.raises(type(error)):
        scene_files.write_scenes(tmp_path / 'deep' / 'data', **FEW)
    assert list((tmp_path / 'deep').iterdir()) == []


def test_an_interrupted_rewrite_keeps_the_old(written, tmp_path, monkeypatch):
    root = tmp_path / 'data'
    scene_files.write_scenes(root, **FEW)
    monkeypatch.setattr(scene_files, '_write_objects', lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        scene_files.write_scenes(root, **{**FEW, 'seed': 1})
    assert contents(root) == contents(written)
    assert list(tmp_path.iterdir()) == [root]


def test_a_complete_folder_is_reused_and_one_of_other_parameters_replaced(tmp_path, monkeypatch):
    root = tmp_path / 'data'
    scene_files.write_scenes(root, **FEW)
    drawn = []
    render = scenes.render_scene
    monkeypatch.setattr(scene_files, 'render_scene', lambda seed, **more: drawn.append(seed) or render(seed, **more))
    scene_files.write_scenes(root, **FEW)
    assert drawn == []
    scene_files.write_scenes(root, **{**FEW, 'unlabeled': 1})
    assert len(drawn) == 1 + 16 + 8
    assert len(list((root / 'unlabeled').iterdir())) == 1
    assert list(tmp_path.iterdir()) == [root]


def test_a_foreign_folder_is_not_touched(tmp_path):
    (tmp_path / 'thesis.txt').write_text('ten years of work')
    with pytest.raises(FileExistsError, match='choose another folder'):
        scene_files.write_scenes(tmp_path, **FEW)
    with pytest.raises(FileExistsError, match='choose another folder'):
        scene_files.write_scenes(tmp_path / 'thesis.txt', **FEW)
    assert contents(tmp_path) == {'thesis.txt': b'ten years of work'}


def test_an_empty_folder_is_filled(written, tmp_path):
    (tmp_path / 'data').mkdir()
    scene_files.write_scenes(tmp_path / 'data', **FEW)
    assert contents(tmp_path / 'data') == contents(written)


@pytest.mark.parametrize(('change', 'message'), [
    ({'train': 7}, 'train=7.*at least 8'), ({'val': 0}, 'val=0.*at least 8'),
    ({'unlabeled': -1}, 'unlabeled=-1.*0 or more'), ({'size': 47}, 'size=47.*48 or more'),
    ({'seed': -1}, 'negative')])
def test_wrong_numbers_are_refused_and_nothing_is_written(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        scene_files.write_scenes(tmp_path / 'data', **{**FEW, **change})
    assert list(tmp_path.iterdir()) == []


def test_stamp_names_the_parameters(written):
    stamp = json.loads((written / scene_files.STAMP).read_text(encoding='utf-8'))
    assert {name: stamp[name] for name in FEW} == FEW
