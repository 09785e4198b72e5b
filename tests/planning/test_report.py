"""Survey of a data set: what it counts and draws."""
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.small_sets import (
    class_folder_config,
    coco_config,
    coco_content,
    label_map_config,
    write_class_folders,
    write_coco,
    write_label_maps,
)
from mmengine.config import Config
from PIL import Image

from mae_backbone.formats.dataset_spec import DataError, DatasetSpec, dataset_specs
from mae_backbone.planning import report
from mae_backbone.planning.adapt_config import adapt_classes
from mae_backbone.planning.report import samples, survey


def spec_of(cfg: Config) -> DatasetSpec:
    adapt_classes(cfg)
    return dataset_specs(cfg, 'train')[0]


def test_objects_are_counted_by_class_and_size(tmp_path: Path):
    write_coco(tmp_path)
    write_coco(tmp_path, split='val')
    seen = []
    lines = survey(spec_of(coco_config(tmp_path)), progress=lambda *now: seen.append(now))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    text = '\n'.join(lines)
    assert 'train: 3 images; width 16 to 40 pixels (median 24), height 16 to 32 pixels (median 30)' in text
    assert '3 boxes, 1.0 per image, 1 images without annotations; by area 3 small, 0 medium, 0 large' in text
    assert ('0 skipped (no area, or outside their image), 1 crowds, 0 reach beyond their image; '
            '0 without a mask, 0 broken masks'
            ) in text
    assert [line.split()[1:4] for line in lines if '%' in line] == [['cell', '2', 'boxes'], ['nucleus', '1', 'boxes']]


def test_untrained_boxes_are_counted_separately(tmp_path: Path):
    content = coco_content()
    content['images'][2].update(width=17)
    first, second, third, _ = content['annotations']
    first.update(area=0), second.update(bbox=[30, 3, 800, 5]), third.update(segmentation=[[2, 3, 10]])
    content['annotations'].append(dict(first, id=9, area=10**5, segmentation=[], bbox=[-90, 3, 8, 5]))
    write_coco(tmp_path, content)
    write_coco(tmp_path, split='val')
    text = '\n'.join(survey(spec_of(coco_config(tmp_path))))
    assert '2 boxes, 0.7 per image, 1 images without annotations; by area 2 small, 0 medium, 0 large' in text
    assert ('2 skipped (no area, or outside their image), 1 crowds, 1 reach beyond their image; '
            '1 without a mask, 1 broken') in text
    assert '1 images have another size than the annotation file states, so that boxes do not fit (c.png: 17x16 ' in text


def test_pixels_are_counted_by_class(tmp_path: Path):
    write_label_maps(tmp_path)
    write_label_maps(tmp_path, 'validation')
    lines = survey(spec_of(label_map_config(tmp_path, img_suffix='.jpg', seg_map_suffix='.png')))
    shares = {' '.join(line.split()[1:-3]): line.split()[-1] for line in lines if '%' in line}
    assert shares == {'sky': '25.0%', 'road': '25.0%', 'car': '25.0%', '(no class)': '25.0%'}
    assert lines[-1].endswith('[1.00, 1.00, 1.00]')


def test_maps_in_colors_are_counted_and_drawn_in_their_colors(tmp_path: Path):
    write_label_maps(tmp_path)
    (tmp_path / 'classes.txt').write_text('sky #0000ff\nroad #00ff00\ncar #ff0000\n- #000000\n')
    for path in (tmp_path / 'annotations' / 'training').iterdir():
        pixels = np.zeros((*np.asarray(Image.open(path)).shape, 3), np.uint8)
        pixels[:, :8], pixels[:, 8:12] = (0, 0, 255), (255, 0, 0)
        Image.fromarray(pixels).save(path)
    spec = spec_of(label_map_config(tmp_path, img_suffix='.jpg', seg_map_suffix='.png'))
    pixels = {' '.join(line.split()[1:-3]): line.split()[-3] for line in survey(spec) if '%' in line}
    heights = 30 + 32 + 16  # of the three images
    assert (pixels['sky'], pixels['car']) == (f'{8 * heights}', f'{4 * heights}')
    picture = samples(spec, 1, height=200)[0][24:]
    assert (picture[..., 2] - picture[..., 0].astype(int))[:, :20].mean() > 60  # blue in the sky


def test_images_are_counted_by_class(tmp_path: Path):
    for split in ('train', 'val'):
        write_class_folders(tmp_path, split)
    lines = survey(spec_of(class_folder_config(tmp_path)))
    assert [line.split()[1:4] for line in lines if '%' in line] == [['cat', '2', 'images'], ['dog', '2', 'images']]


def test_unreadable_files_are_named(tmp_path: Path):
    write_coco(tmp_path)
    write_coco(tmp_path, split='val')
    (tmp_path / 'train' / 'b.png').write_bytes(b'no image')
    spec = spec_of(coco_config(tmp_path))
    text = '\n'.join(survey(spec))
    assert '1 files cannot be read: ' in text
    assert 'b.png' in text
    assert len(samples(spec)) == 2


@pytest.mark.parametrize(('pixels', 'fault'), [
    (np.float32([[0.5, 1]] * 2), 'has float32 numbers'), (np.int32([[-1, 1]] * 2), 'has numbers from -1 to 1'),
    (np.uint16([[1, 300]] * 2), 'has numbers from 1 to 300'), (np.zeros((4, 4, 3), np.uint8), 'has 3 channels'),
    (None, 'cannot be read as an image (DecompressionBombError')])
def test_invalid_maps_are_named_and_the_others_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                                   pixels: np.ndarray | None, fault: str):
    write_label_maps(tmp_path)
    write_label_maps(tmp_path, 'validation')
    for path in (tmp_path / 'annotations').rglob('*.png'):
        Image.open(path).save(path.with_suffix('.tif'))
    spec = spec_of(label_map_config(tmp_path, img_suffix='.jpg', seg_map_suffix='.tif'))
    whole = survey(spec)
    path = tmp_path / 'annotations' / 'training' / 'b.tif'
    if pixels is None:
        Image.new('L', (100, 100)).save(path)
        monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 2000)  # PIL refuses twice as many
    else:
        Image.fromarray(pixels).save(path)
    lines = survey(spec)
    assert lines[1].startswith(f'train: 1 files cannot be read: {path} {fault}')
    assert [line.split()[1] for line in lines[2:]] == [line.split()[1] for line in whole[1:]]
    assert len(samples(spec)) == 2


def test_results_that_wait_to_be_counted_are_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Threads read ahead of the counting: pixels would fill the memory."""
    write_label_maps(tmp_path)
    write_label_maps(tmp_path, 'validation')
    results: list = []

    def spy(read: Callable) -> Callable:
        def wrapped(*arguments: object) -> object:
            results.append(read(*arguments))
            return results[-1]
        return wrapped
    for name in ('_size_or_error', '_counts_or_error'):
        monkeypatch.setattr(report, name, spy(getattr(report, name)))
    survey(spec_of(label_map_config(tmp_path, img_suffix='.jpg', seg_map_suffix='.png')))
    assert sorted(map(np.size, results)) == [2] * 3 + [256] * 3


def test_more_classes_than_labels_are_drawn(tmp_path: Path):
    write_label_maps(tmp_path)
    write_label_maps(tmp_path, 'validation')
    (tmp_path / 'classes.txt').unlink()
    names = [f'c{i}' for i in range(300)]
    spec = spec_of(label_map_config(tmp_path, img_suffix='.jpg', seg_map_suffix='.png', metainfo=dict(classes=names)))
    assert len(samples(spec)) == 3
    assert '3 images; ' in survey(spec)[0]


@pytest.mark.parametrize('kind', ['coco', 'maps', 'folders'])
def test_samples_show_the_annotations(kind: str, tmp_path: Path):
    for split in ('train', 'val'):
        write_coco(tmp_path, split=split)
        write_class_folders(tmp_path / 'classes', split)
    for split in ('training', 'validation'):
        write_label_maps(tmp_path / 'maps', split)
    cfg = {'coco': lambda: coco_config(tmp_path), 'folders': lambda: class_folder_config(tmp_path / 'classes'),
           'maps': lambda: label_map_config(tmp_path / 'maps', img_suffix='.jpg', seg_map_suffix='.png')}[kind]()
    drawn = samples(spec_of(cfg), 2, height=64)
    assert [picture.shape[0] for picture in drawn] == [88, 88]
    if kind == 'coco':
        assert {tuple(pixel) for pixel in drawn[0].reshape(-1, 3)} & {(122, 31, 31), (153, 31, 31)}  # a box in red


def test_unlabeled_images_are_read_and_12_bits_are_noticed(tmp_path: Path):
    dataset = dict(type='mae_backbone.UnlabeledImages', data_root=str(tmp_path))
    spec = spec_of(Config(dict(train_dataloader=dict(dataset=dataset))))
    for i in range(3):
        Image.fromarray(np.full((8, 12), 4000 + i, np.uint16)).save(tmp_path / f'{i}.png')
    (tmp_path / 'broken.png').write_bytes(b'nothing')
    text = '\n'.join(survey(spec))
    assert 'train: 4 images; width 12 to 12 pixels (median 12), height 8 to 8 pixels' in text
    assert '1 files cannot be read' in text
    assert 'broken.png' in text
    assert '4,002 (12 bits)' in text
    assert len(samples(spec)) == 3


def test_only_files_of_color_images_are_surveyed(tmp_path: Path):
    np.save(tmp_path / 'a.npy', np.zeros((8, 8, 5), np.float32))
    dataset = dict(type='mae_backbone.UnlabeledImages', data_root=str(tmp_path),
                   reader=dict(type='mae_backbone.ArrayReader'))
    with pytest.raises(DataError, match='not color images'):
        survey(spec_of(Config(dict(train_dataloader=dict(dataset=dataset)))))
