"""The look through a data set: what it counts, and what it draws."""
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
from pycocotools import mask as coco_rle

from mae_backbone.formats.dataset_spec import Source, sources
from mae_backbone.planning.adapt_config import fit_classes
from mae_backbone.planning.report import _draw_objects, _look, _outlines, class_weights, samples, survey


def source_of(cfg: Config) -> Source:
    fit_classes(cfg)
    return sources(cfg, 'train')[0]


def compressed(mask: np.ndarray) -> dict:
    """mask (H, W) of 0 and 1 -> RLE as it stands in a file."""
    found = coco_rle.encode(np.asfortranarray(mask))
    return found | {'counts': found['counts'].decode()}


def test_objects_are_counted_by_class_and_size(tmp_path: Path):
    write_coco(tmp_path)
    write_coco(tmp_path, split='val')
    seen = []
    lines = survey(source_of(coco_config(tmp_path)), progress=lambda *now: seen.append(now))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    said = '\n'.join(lines)
    assert 'train: 3 images; width 16 to 40 pixels (median 24), height 16 to 32 pixels (median 30)' in said
    assert '4 boxes, 1.3 an image, 1 images without; by area 4 small, 0 medium, 0 large' in said
    assert ('0 left out (no area, or outside), 1 crowds, 0 reach beyond their image; 0 without a mask, 0 broken masks'
            ) in said
    assert [line.split()[1:4] for line in lines if '%' in line] == [['cell', '2', 'boxes'], ['nucleus', '2', 'boxes']]


def test_boxes_that_are_not_trained_on_are_counted_apart(tmp_path: Path):
    content = coco_content()
    content['images'][2].update(width=17)
    first, second, third, _ = content['annotations']
    first.update(area=0), second.update(bbox=[30, 3, 800, 5]), third.update(segmentation=[[2, 3, 10]])
    content['annotations'].append(dict(first, id=9, area=10**5, segmentation=[], bbox=[-90, 3, 8, 5]))
    write_coco(tmp_path, content)
    write_coco(tmp_path, split='val')
    said = '\n'.join(survey(source_of(coco_config(tmp_path))))
    assert '3 boxes, 1.0 an image, 1 images without; by area 3 small, 0 medium, 0 large' in said
    assert '2 left out (no area, or outside), 1 crowds, 1 reach beyond their image; 1 without a mask, 1 broken' in said
    assert '1 images have another size than the annotation file says, so that boxes do not fit (c.png: 17x16 ' in said


@pytest.mark.parametrize('segmentation', [
    [[2, 3, 10, 3, 10, 8]], [[2, 3, 10, 3, 1e10, 8]], [[2, 3, 10]], 'text', {'counts': [1200], 'size': [4, 4]},
    {'counts': [300, 300, 600], 'size': [30, 40]}, compressed(np.tri(30, 40, dtype=np.uint8))])
@pytest.mark.parametrize('bbox', [[2, 3, 8, 5], [-1e10, 0, 2e10, 5]])
def test_whatever_stands_in_a_file_is_drawn_where_it_can_be(tmp_path: Path, segmentation: object, bbox: list):
    content = coco_content()
    content['annotations'] = [dict(content['annotations'][0], bbox=bbox, segmentation=segmentation)]
    write_coco(tmp_path, content)
    write_coco(tmp_path, split='val')
    image = np.zeros((30, 40, 3), np.uint8)
    drawn = _draw_objects(image, source_of(coco_config(tmp_path)), content['annotations'])
    assert drawn.any()


def test_run_lengths_are_drawn_as_the_polygons_around_them(tmp_path: Path):
    mask = np.zeros((30, 40), np.uint8)
    mask[5:20, 8:25] = 1
    outline, = _outlines(compressed(mask), np.zeros((30, 40, 3)))
    assert outline.min(0).tolist() == [8, 5]
    assert outline.max(0).tolist() == [24, 19]


def test_pixels_are_counted_by_class(tmp_path: Path):
    write_label_maps(tmp_path)
    write_label_maps(tmp_path, 'validation')
    lines = survey(source_of(label_map_config(tmp_path, img_suffix='.jpg', seg_map_suffix='.png')))
    shares = {' '.join(line.split()[1:-3]): line.split()[-1] for line in lines if '%' in line}
    assert shares == {'sky': '25.0%', 'road': '25.0%', 'car': '25.0%', '(no class)': '25.0%'}
    assert lines[-1].endswith('[1.00, 1.00, 1.00]')


def test_maps_in_colors_are_counted_and_drawn_in_these(tmp_path: Path):
    write_label_maps(tmp_path)
    (tmp_path / 'classes.txt').write_text('sky #0000ff\nroad #00ff00\ncar #ff0000\n- #000000\n')
    for path in (tmp_path / 'annotations' / 'training').iterdir():
        pixels = np.zeros((*np.asarray(Image.open(path)).shape, 3), np.uint8)
        pixels[:, :8], pixels[:, 8:12] = (0, 0, 255), (255, 0, 0)
        Image.fromarray(pixels).save(path)
    source = source_of(label_map_config(tmp_path, img_suffix='.jpg', seg_map_suffix='.png'))
    pixels = {' '.join(line.split()[1:-3]): line.split()[-3] for line in survey(source) if '%' in line}
    heights = 30 + 32 + 16  # of the three images
    assert (pixels['sky'], pixels['car']) == (f'{8 * heights}', f'{4 * heights}')
    picture = samples(source, 1, height=200)[0][24:]
    assert (picture[..., 2] - picture[..., 0].astype(int))[:, :20].mean() > 60  # blue in the sky


def test_weights_make_up_for_a_part_of_the_shares():
    weights = class_weights(np.array([400, 100, 25, 0]))
    assert weights == pytest.approx([0.5, 1, 2, 1])
    assert class_weights(np.array([400, 100, 25, 0]) * 7) == weights
    assert class_weights(np.zeros(2)) == [1.0, 1.0]


def test_images_are_counted_by_class(tmp_path: Path):
    for split in ('train', 'val'):
        write_class_folders(tmp_path, split)
    lines = survey(source_of(class_folder_config(tmp_path)))
    assert [line.split()[1:4] for line in lines if '%' in line] == [['cat', '2', 'images'], ['dog', '2', 'images']]


def test_files_that_cannot_be_read_are_named(tmp_path: Path):
    write_coco(tmp_path)
    write_coco(tmp_path, split='val')
    (tmp_path / 'train' / 'b.png').write_bytes(b'no image')
    source = source_of(coco_config(tmp_path))
    said = '\n'.join(survey(source))
    assert '1 files cannot be read: ' in said
    assert 'b.png' in said
    assert len(samples(source)) == 2


@pytest.mark.parametrize(('pixels', 'fault'), [
    (np.float32([[0.5, 1]] * 2), 'holds float32 numbers'), (np.int32([[-1, 1]] * 2), 'holds numbers from -1 to 1'),
    (np.uint16([[1, 300]] * 2), 'holds numbers from 1 to 300'), (np.zeros((4, 4, 3), np.uint8), 'holds 3 channels'),
    (None, 'cannot be read as an image (DecompressionBombError')])
def test_maps_that_hold_no_labels_are_named_and_the_others_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                                   pixels: np.ndarray | None, fault: str):
    write_label_maps(tmp_path)
    write_label_maps(tmp_path, 'validation')
    for path in (tmp_path / 'annotations').rglob('*.png'):
        Image.open(path).save(path.with_suffix('.tif'))
    source = source_of(label_map_config(tmp_path, img_suffix='.jpg', seg_map_suffix='.tif'))
    whole = survey(source)
    path = tmp_path / 'annotations' / 'training' / 'b.tif'
    if pixels is None:
        Image.new('L', (100, 100)).save(path)
        monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 2000)  # PIL refuses twice as many
    else:
        Image.fromarray(pixels).save(path)
    lines = survey(source)
    assert lines[1].startswith(f'train: 1 files cannot be read: {path} {fault}')
    assert [line.split()[1] for line in lines[2:]] == [line.split()[1] for line in whole[1:]]
    assert len(samples(source)) == 2


def test_what_waits_to_be_counted_is_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Threads are ahead of what is counted: pixels would fill the memory."""
    write_label_maps(tmp_path)
    write_label_maps(tmp_path, 'validation')
    results = []

    def look(*arguments: object) -> object:
        results.append(_look(*arguments))
        return results[-1]
    monkeypatch.setattr('mae_backbone.planning.report._look', look)
    survey(source_of(label_map_config(tmp_path, img_suffix='.jpg', seg_map_suffix='.png')))
    assert sorted(map(np.size, results)) == [2] * 3 + [256] * 3


def test_more_classes_than_labels_are_drawn_all_the_same(tmp_path: Path):
    write_label_maps(tmp_path)
    write_label_maps(tmp_path, 'validation')
    (tmp_path / 'classes.txt').write_text('\n'.join(f'c{i}' for i in range(300)))
    source = source_of(label_map_config(tmp_path, img_suffix='.jpg', seg_map_suffix='.png'))
    assert len(samples(source)) == 3
    assert '3 images; ' in survey(source)[0]


@pytest.mark.parametrize('kind', ['coco', 'maps', 'folders'])
def test_samples_show_what_is_annotated(kind: str, tmp_path: Path):
    for split in ('train', 'val'):
        write_coco(tmp_path, split=split)
        write_class_folders(tmp_path / 'classes', split)
    for split in ('training', 'validation'):
        write_label_maps(tmp_path / 'maps', split)
    cfg = {'coco': lambda: coco_config(tmp_path), 'folders': lambda: class_folder_config(tmp_path / 'classes'),
           'maps': lambda: label_map_config(tmp_path / 'maps', img_suffix='.jpg', seg_map_suffix='.png')}[kind]()
    drawn = samples(source_of(cfg), 2, height=64)
    assert [picture.shape[0] for picture in drawn] == [88, 88]
    if kind == 'coco':
        assert {tuple(pixel) for pixel in drawn[0].reshape(-1, 3)} & {(122, 31, 31), (153, 31, 31)}  # a box in red
