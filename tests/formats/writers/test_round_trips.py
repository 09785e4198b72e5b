"""COCO -> YOLO or Pascal VOC -> COCO, and what cannot be carried over."""
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers.layouts import Shape, coco_dict, scene, voc_xml, write_labelme, write_voc, write_yolo
from helpers.small_sets import write_image
from PIL import Image
from pycocotools import mask as coco_rle

from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.import_data import import_data
from mae_backbone.formats.layouts.class_lists import find_class_images
from mae_backbone.formats.layouts.labeled_set import LabeledSet
from mae_backbone.formats.layouts.map_pairs import find_map_pairs
from mae_backbone.formats.layouts.registry import find_layout


def read(root: Path) -> LabeledSet:
    return find_layout(root).read(root)


def write_random_coco(root: Path, seed: int = 0) -> None:
    """Boxes of any fractions of pixels in images of odd sizes, some of which touch the border."""
    rng = np.random.default_rng(seed)
    for split, names in (('train', ('a b.png', 'ü.png', 'sub/a b.png', 'a b.jpg')), ('val', ('c.JPG',))):
        content = coco_dict({})
        for name in names:
            width, height = rng.integers(20, 300, 2).tolist()
            scene(root / split / name, (width, height))
            image_id = len(content['images']) + 7
            content['images'].append(dict(id=image_id, file_name=name, width=width, height=height))
            for _ in range(4):
                x, y = (rng.random(2) * [width - 6, height - 6]).tolist()
                w, h = (2 + rng.random(2) * [width - x - 2, height - y - 2]).tolist()
                content['annotations'].append(dict(
                    id=len(content['annotations']) + 3, image_id=image_id, iscrowd=0, bbox=[x, y, w, h], area=w * h,
                    category_id=1 + int(rng.integers(2)), segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]]))
        path = root / f'annotations/instances_{split}.json'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))


def corners(labeled: LabeledSet) -> dict[tuple[str, tuple[int, int]], list[tuple]]:
    """Split and size of an image -> class and corners of its objects."""
    return {(image.split, image.size): sorted(
        (item.name, *np.round([item.box[0], item.box[1], item.box[0] + item.box[2], item.box[1] + item.box[3]],
                              6).tolist()) for item in image.objects) for image in labeled.images}


@pytest.mark.parametrize('target', ['yolo', 'voc', 'coco'])
@pytest.mark.parametrize('link', [False, True])
def test_boxes_come_back_within_half_a_pixel(tmp_path: Path, target: str, link: bool) -> None:
    write_random_coco(tmp_path / 'source')
    import_data(tmp_path / 'source', tmp_path / target, target, link=link)
    import_data(tmp_path / target, tmp_path / 'back', 'coco')
    before, after = corners(read(tmp_path / 'source')), corners(read(tmp_path / 'back'))
    assert before.keys() == after.keys()
    for key, objects in before.items():
        # Objects are sorted by their class and then by their left edge, which rounding may exchange.
        others = list(after[key])
        assert len(others) == len(objects)
        for name, *values in objects:
            best = min((other for other in others if other[0] == name),
                       key=lambda other: np.abs(np.subtract(other[1:], values)).max())
            assert np.abs(np.subtract(best[1:], values)).max() <= (0.5 if target == 'voc' else 0.002)
            others.remove(best)
    assert all((tmp_path / target / name).is_symlink() == link
               for name in (image.file_name for image in read(tmp_path / target).images))


def test_polygons_and_masks_come_back_from_yolo(tmp_path: Path) -> None:
    two = [[2.0, 2, 12, 2, 12, 12, 2, 12], [20.0, 20, 30, 20, 30, 30, 20, 30]]
    pixels = np.zeros((40, 50), np.uint8, order='F')
    pixels[5:15, 7:27] = 1
    rle = coco_rle.encode(pixels)
    content = coco_dict({})
    for i, segmentation in enumerate((two, dict(size=[40, 50], counts=rle['counts'].decode()))):
        box = [[2, 2, 28, 28], [7, 5, 20, 10]][i]
        content['annotations'].append(dict(id=i + 1, image_id=1, category_id=1, bbox=box, area=200, iscrowd=0,
                                           segmentation=segmentation))
    content['images'] = [dict(id=1, file_name='a.png', width=50, height=40),
                         dict(id=2, file_name='b.png', width=50, height=40)]
    for split in ('train', 'val'):
        for name in 'ab':
            scene(tmp_path / 'coco' / split / f'{name}.png', (50, 40))
        (tmp_path / f'coco/{split}.json').write_text(json.dumps(content))
    result = import_data(tmp_path / 'coco', tmp_path / 'yolo', 'yolo')
    assert any('not carried over: objects of several polygons' in line for line in result.lines)
    assert any('not carried over: masks of pixels' in line for line in result.lines)
    joined, outline = read(tmp_path / 'yolo').images[0].objects
    assert joined.box == pytest.approx((2, 2, 28, 28), abs=0.002)
    assert outline.box == pytest.approx((7, 5, 20, 10), abs=0.5)
    for item, area in ((joined, 200), (outline, 200)):
        mask = coco_rle.decode(coco_rle.merge(coco_rle.frPyObjects(item.segmentation, 40, 50)))
        assert mask.sum() == pytest.approx(area, rel=0.12)


def test_ids_of_images_objects_and_classes_are_kept(tmp_path: Path) -> None:
    write_random_coco(tmp_path / 'coco')
    import_data(tmp_path / 'coco', tmp_path / 'copy', 'coco', link=True)
    before, after = (json.loads((tmp_path / root / 'annotations/instances_train.json').read_text())
                     for root in ('coco', 'copy'))
    assert after['categories'] == before['categories']
    assert after['annotations'] == before['annotations']
    assert [image['id'] for image in after['images']] == [image['id'] for image in before['images']]


def test_data_yaml_of_yolo_can_be_used_from_any_folder(tmp_path: Path) -> None:
    write_random_coco(tmp_path / 'source')
    import_data(tmp_path / 'source', tmp_path / 'yolo', 'yolo')
    content = yaml.safe_load((tmp_path / 'yolo/data.yaml').read_text())
    assert 'path' not in content  # ultralytics takes a relative one from the working directory
    assert [(tmp_path / 'yolo' / content[split]).is_dir() for split in ('train', 'val')] == [True, True]


def test_difficult_objects_are_kept_by_coco_and_reported_by_yolo(tmp_path: Path) -> None:
    path = write_voc(tmp_path / 'voc') / 'Annotations/c.xml'
    path.write_text(path.read_text().replace('</name>', '</name><difficult>1</difficult>'))
    import_data(tmp_path / 'voc', tmp_path / 'coco', 'coco')
    import_data(tmp_path / 'coco', tmp_path / 'back', 'voc')
    assert '<difficult>1</difficult>' in (tmp_path / 'back/Annotations/c.xml').read_text()
    lines = import_data(tmp_path / 'voc', tmp_path / 'yolo', 'yolo').lines
    assert any('not carried over: regions to ignore' in line and ': 1 (' in line for line in lines)
    assert (tmp_path / 'yolo/import.txt').read_text().splitlines() == lines


def test_polygons_become_label_maps_and_regions_become_objects(tmp_path: Path) -> None:
    write_labelme(tmp_path / 'labelme', polygons=True)
    result = import_data(tmp_path / 'labelme', tmp_path / 'maps', 'labelmaps')
    assert (tmp_path / 'maps/classes.txt').read_text() == 'background\nblue\nred\n'
    assert any('borders between objects of a class' in line for line in result.lines)
    found = find_map_pairs(tmp_path / 'maps')
    assert len(found.pairs) == 4
    labels = np.asarray(Image.open(tmp_path / 'maps/annotations/training/a b.png'))
    assert labels.shape == (47, 61)
    assert set(np.unique(labels)) == {0, 1, 2}
    assert (labels == 2).sum() == pytest.approx(20 * 15 / 2, rel=0.15)
    import_data(tmp_path / 'maps', tmp_path / 'coco', 'coco')
    boxes = corners(read(tmp_path / 'coco'))
    for image in read(tmp_path / 'labelme').images:
        for item, (name, *values) in zip(sorted(image.objects), boxes[image.split, image.size], strict=True):
            expected = [item.box[0], item.box[1], item.box[0] + item.box[2], item.box[1] + item.box[3]]
            assert item.name == name
            assert np.abs(np.subtract(values, expected)).max() <= 1


def test_masks_of_0_and_255_become_numbers(tmp_path: Path) -> None:
    for i in range(5):
        write_image(tmp_path / f'in/images/{i}.png', (12, 8))
        path = tmp_path / f'in/masks/{i}.png'
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.resize(np.array([0, 255], np.uint8), (8, 12))).save(path)
    result = import_data(tmp_path / 'in', tmp_path / 'out', 'labelmaps')
    assert any('1 of 5 images are held out' in line for line in result.lines)
    assert len(list((tmp_path / 'out/images/training').iterdir())) == 4
    assert np.unique(np.asarray(Image.open(next((tmp_path / 'out/annotations/validation').iterdir())))).tolist() == [
        0, 1]


def test_images_of_one_class_become_class_folders(tmp_path: Path) -> None:
    write_voc(tmp_path / 'voc')
    for name, shapes in (('d.jpg', [Shape('blue', (1, 1, 5, 5))]), ('e.jpg', [Shape('red', (1, 1, 5, 5))])):
        scene(tmp_path / 'voc/JPEGImages' / name, (20, 20))
        (tmp_path / f'voc/Annotations/{name[0]}.xml').write_text(voc_xml((20, 20), shapes))
    with (tmp_path / 'voc/ImageSets/Main/train.txt').open('a') as file:
        file.write('d\ne\n')
    result = import_data(tmp_path / 'voc', tmp_path / 'out', 'folders')
    assert any('images with objects of several classes: 1' in line for line in result.lines)
    found = find_class_images(tmp_path / 'out')
    assert {(image.split, image.name) for image in found.images} == {('train', 'blue'), ('train', 'red'),
                                                                     ('val', 'red')}


def test_class_folders_get_a_validation_split(tmp_path: Path) -> None:
    for name in ('cat', 'dog'):
        for i in range(5):
            write_image(tmp_path / f'in/{name}/{i}.png')
    import_data(tmp_path / 'in', tmp_path / 'out', 'folders', link=True)
    assert sorted(str(path.relative_to(tmp_path / 'out')) for path in (tmp_path / 'out/val').glob('*/*'))[0][:8] == (
        'val/cat/')
    assert json.loads((tmp_path / 'out/split.json').read_text())['fraction'] == 0.2


def test_unusable_sources_and_targets_are_refused(tmp_path: Path) -> None:
    write_yolo(tmp_path / 'yolo')
    for source, out, target, message in (
            ('yolo', 'yolo', 'coco', 'exists and is not empty'),
            ('yolo', 'yolo/out', 'coco', 'is in the folder of the'),
            ('nothing', 'out', 'coco', 'does not exist'), ('yolo', 'out', 'labelmaps', 'have a box and no mask')):
        with pytest.raises(DataError, match=message):
            import_data(tmp_path / source, tmp_path / out, target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['yolo']
    (tmp_path / 'empty').mkdir()
    with pytest.raises(DataError, match='has no layout of labels that is known'):
        import_data(tmp_path / 'empty', tmp_path / 'out', 'coco')


@pytest.mark.parametrize('segmentation', [
    [4, 6, 24, 6, 24, 21, 4, 21], {'counts': [10], 'size': [5, 2]}, {'size': [47, 61]}, 'polygon', [[4, 6, None, 6]]])
def test_segmentations_that_are_no_masks_are_refused(tmp_path: Path, segmentation: object) -> None:
    """A flat list of coordinates is the most common one. The boxes can be imported."""
    write_random_coco(tmp_path / 'source')
    path = tmp_path / 'source/annotations/instances_train.json'
    content = json.loads(path.read_text())
    content['annotations'][1]['segmentation'] = segmentation
    path.write_text(json.dumps(content))
    for target in ('coco', 'yolo', 'labelmaps'):
        with pytest.raises(DataError, match=r'1 objects have a segmentation that is not a mask .* \(id 4 in train/'):
            import_data(tmp_path / 'source', tmp_path / 'out', target)
        assert not (tmp_path / 'out').exists()
    import_data(tmp_path / 'source', tmp_path / 'out', 'voc')


def test_a_class_named_background_is_the_background_of_label_maps(tmp_path: Path) -> None:
    shapes = [Shape('apple', (2, 2, 9, 9)), Shape('background', (20, 2, 9, 9)), Shape('car', (2, 20, 9, 9))]
    for split in ('train', 'val'):
        scene(tmp_path / f'source/{split}/{split}.png', (40, 30))
        content = coco_dict({f'{split}.png': ((40, 30), [shape._replace(name='red') for shape in shapes])})
        content['categories'] = [dict(id=number, name=shape.name) for number, shape in enumerate(shapes, start=1)]
        for number, annotation in enumerate(content['annotations'], start=1):
            annotation['category_id'] = number
        (tmp_path / f'source/{split}.json').write_text(json.dumps(content))
    import_data(tmp_path / 'source', tmp_path / 'out', 'labelmaps')
    assert (tmp_path / 'out/classes.txt').read_text().split() == ['background', 'apple', 'car']
    labels = np.asarray(Image.open(tmp_path / 'out/annotations/training/train.png'))
    assert (labels[5, 5], labels[5, 25], labels[25, 5]) == (1, 0, 2)


def test_polygons_of_two_points_are_reported_and_not_drawn(tmp_path: Path) -> None:
    scene(tmp_path / 'source/train/a.png', (40, 30))
    content = coco_dict({'a.png': ((40, 30), [Shape('red', (2, 2, 9, 9)), Shape('red', (20, 2, 9, 9))])})
    content['annotations'][0]['segmentation'].append([30, 20, 38, 28])
    content['annotations'][1]['segmentation'] = [[20, 2, 29, 11]]
    (tmp_path / 'source/train.json').write_text(json.dumps(content))
    scene(tmp_path / 'source/val/b.png', (40, 30))
    val = coco_dict({'b.png': ((40, 30), [Shape('blue', (1, 1, 5, 5))])})
    (tmp_path / 'source/val.json').write_text(json.dumps(val))
    words = 'not carried over: polygons of fewer than three points'
    for target in ('labelmaps', 'yolo'):
        assert any(line.startswith(words) for line in import_data(tmp_path / 'source', tmp_path / target, target).lines)
    labels = np.asarray(Image.open(tmp_path / 'labelmaps/annotations/training/a.png'))
    assert (labels == 1).sum() == 81
    lines = (tmp_path / 'yolo/labels/train/a.txt').read_text().splitlines()
    assert [len(line.split()) for line in lines] == [9, 5]


def test_only_folder_of_a_project_is_imported(tmp_path: Path) -> None:
    write_yolo(tmp_path / 'project/data')
    import_data(tmp_path / 'project', tmp_path / 'coco', 'coco')
    assert corners(read(tmp_path / 'coco')) == corners(read(tmp_path / 'project/data'))
