"""Generated scenes: the same bytes everywhere, exact labels, colour tells nothing, all or nothing on disk."""
import hashlib
import json

import cv2
import numpy as np
import pytest
from pycocotools import mask as rle
from pycocotools.coco import COCO

from mae_backbone import scenes

FEW = {'unlabelled': 3, 'train': 16, 'val': 8, 'size': 64}


@pytest.fixture(scope='module')
def many() -> list[scenes.Scene]:
    return [scenes.render_scene(seed) for seed in range(250)]


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp('written') / 'data'
    scenes.write_scenes(root, **FEW)
    return root


def contents(root) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob('*') if path.is_file()}


def test_arrays_are_the_same_bytes_on_every_machine():
    # The drawing is integer arithmetic of our own: an earlier state gave the same bytes with NumPy 1.26, 2.2 and 2.4
    # and OpenCV 4.8, 4.10, 4.11, 4.12 and 5.0 on x86-64.
    digest = hashlib.sha256()
    for seed in range(20):
        for array in scenes.render_scene(seed):
            digest.update(np.ascontiguousarray(array))
        digest.update(scenes.render_object(seed, seed % len(scenes.CLASSES)))
    assert digest.hexdigest() == '345823e5390d7405af7fdb0c961b75b5b9d69860168975236f576d0e2f04ceb9'


def test_a_seed_and_a_label_each_change_the_image():
    images = [scenes.render_scene(0).image, scenes.render_scene(1).image,
              *[scenes.render_object(seed, label) for seed in (0, 1) for label in (0, 1)]]
    assert len({image.tobytes() for image in images}) == len(images)


@pytest.mark.parametrize('size', [48, 97, 160])
def test_shapes_and_types(size):
    scene = scenes.render_scene(5, size=size)
    assert (scene.image.shape, scene.image.dtype) == ((size, size, 3), np.uint8)
    assert (scene.masks.shape, scene.masks.dtype) == ((len(scene.labels), size, size), bool)
    assert (scene.segments.shape, scene.segments.dtype) == ((size, size), np.uint8)
    assert scene.labels.dtype == np.int64
    assert scenes.render_object(5, 2, size=size).shape == (size, size, 3)


def test_masks_are_disjoint_and_never_tiny(many):
    for scene in many:
        assert len(scene.masks) >= 1
        assert scene.masks.sum(0).max() == 1
        assert scene.masks.sum((1, 2)).min() * 150 > scene.segments.size


def test_segments_agree_with_masks(many):
    for scene in many:
        for label, name in enumerate(scenes.CLASSES):
            segment = scene.segments == scenes.SEGMENTS.index(name)
            np.testing.assert_array_equal(segment, scene.masks[scene.labels == label].any(0))


def test_objects_are_painted_where_their_masks_are():
    """Painting an object changes pixels inside its mask, nearly all, and none outside."""
    canvas = scenes._Canvas(np.random.default_rng(3), 96)
    canvas.paint_stuff()
    before = canvas.image.copy()
    canvas.paint_object(0, radius=(20, 20), centre=(50, 50))
    (mask,), _, _ = canvas.visible_objects()
    changed = (canvas.image != before).any(-1)
    assert not changed[~mask].any()
    assert changed[mask].mean() > 0.99


def test_all_classes_and_all_stuff_are_about_as_frequent(many):
    objects = np.bincount(np.concatenate([scene.labels for scene in many]), minlength=len(scenes.CLASSES))
    assert objects.min() > 0.6 * objects.mean()
    assert objects.max() < 1.4 * objects.mean()
    pixels = np.bincount(np.stack([scene.segments for scene in many]).ravel(), minlength=len(scenes.SEGMENTS))
    assert pixels[1:len(scenes.STUFF)].min() > 0.15 * pixels.sum()
    assert pixels[0] > 0.03 * pixels.sum()


def test_each_shape_and_each_texture_belongs_to_two_classes():
    """So neither alone can tell a class."""
    for part in zip(*[name.split('-') for name in scenes.CLASSES], strict=True):
        assert {part.count(word) for word in part} == {2}
    assert list(scenes.CLASSES) == sorted(scenes.CLASSES)  # the order in which folders are numbered


def nearest_centroid_accuracy(features: np.ndarray, labels: np.ndarray) -> float:
    """Of the second half of the samples, by the means of the first."""
    half = len(features) // 2
    centroids = np.stack([features[:half][labels[:half] == label].mean(0) for label in range(len(scenes.CLASSES))])
    distance = ((features[half:, None] - centroids) ** 2).sum(-1)
    return (distance.argmin(1) == labels[half:]).mean()


def test_mean_colour_is_a_hint_and_not_the_answer(many):
    colours = np.stack([scene.image[mask].mean(0) for scene in many for mask in scene.masks])
    labels = np.concatenate([scene.labels for scene in many])
    chance = 1 / len(scenes.CLASSES)
    assert len(labels) > 600
    assert chance + 0.15 < nearest_centroid_accuracy(colours, labels) < 0.55


def test_shape_and_texture_do_tell_the_class():
    """How convex an object is, how it fills its box, how lopsided its brightness: three plain measures beat chance."""
    features, labels = [], []
    for seed in range(240):
        canvas = scenes._Canvas(np.random.default_rng(seed), 96)
        canvas.paint_stuff()
        canvas.paint_object(seed % 8, radius=(26, 40), centre=(45, 55))
        (mask,), _, _ = canvas.visible_objects()
        hull = cv2.convexHull(np.argwhere(mask).astype(np.int32))
        _, (width, height), _ = cv2.minAreaRect(hull)
        grey = canvas.develop()[mask].mean(-1)
        features.append((mask.sum() / cv2.contourArea(hull), cv2.contourArea(hull) / (width * height),
                         abs(np.median(grey) - grey.mean()) / grey.std()))
        labels.append(seed % 8)
    features = np.array(features)
    assert nearest_centroid_accuracy((features - features.mean(0)) / features.std(0), np.array(labels)) > 0.4


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
@pytest.mark.parametrize('split', ['train', 'val'])
def test_coco_file_decodes_to_the_masks_rendered(written, split):
    coco = COCO(written / f'annotations/instances_{split}.json')
    stream = {'train': 1, 'val': 2}[split]
    assert [coco.cats[i]['name'] for i in sorted(coco.cats)] == list(scenes.CLASSES)
    assert sorted(coco.anns) == list(range(1, len(coco.anns) + 1))
    assert sorted(coco.imgs) == list(range(1, FEW[split] + 1))
    for image, seed in zip(coco.loadImgs(sorted(coco.imgs)), scenes._seeds(0, stream), strict=False):
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


def test_files_show_what_was_rendered(written):
    for index, seed in zip(range(FEW['train']), scenes._seeds(0, 1), strict=False):
        scene = scenes.render_scene(seed, size=64)
        segments = cv2.imread(str(written / f'segments/train/{index:06d}.png'), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(segments, scene.segments)
        image = cv2.imread(str(written / f'images/train/{index:06d}.jpg'))[:, :, ::-1]
        assert abs(image.astype(int) - scene.image).mean() < 3  # of 255, what JPEG loses
    assert (written / 'classes.txt').read_text(encoding='utf-8').split() == list(scenes.SEGMENTS)


def test_folders_hold_the_numbers_asked_for(written):
    files = list(contents(written))
    assert len(files) == 3 + 3 * 16 + 3 * 8 + 2 + 2  # + annotations, classes.txt and the stamp
    for split in ('train', 'val'):
        folders = sorted(path.name for path in (written / 'classes' / split).iterdir())
        assert folders == list(scenes.CLASSES)
        assert all(len(list((written / 'classes' / split / name).iterdir())) == FEW[split] // 8 for name in folders)


def test_no_image_is_in_two_places(written):
    images = [data for name, data in contents(written).items() if name.endswith('.jpg')]
    assert len(set(images)) == len(images)


def test_two_writes_are_equal_and_more_images_leave_the_first_as_they_are(written, tmp_path):
    scenes.write_scenes(tmp_path / 'again', **FEW)
    assert contents(tmp_path / 'again') == contents(written)
    scenes.write_scenes(tmp_path / 'more', **{**FEW, 'unlabelled': 5, 'train': 24})
    first = {name: data for name, data in contents(written).items() if name.endswith(('.jpg', '.png'))}
    assert first.items() <= contents(tmp_path / 'more').items()


def test_another_seed_writes_other_images(written, tmp_path):
    scenes.write_scenes(tmp_path / 'other', **FEW, seed=1)
    ours, others = ({data for name, data in contents(root).items() if name.endswith(('.jpg', '.png'))}
                    for root in (written, tmp_path / 'other'))
    assert not ours & others


@pytest.mark.parametrize('error', [OSError('disk full'), KeyboardInterrupt()])
def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch, error):
    def fail(*args, **kwargs):
        raise error
    monkeypatch.setattr(scenes, 'render_object', fail)  # the last kind of image of each split
    with pytest.raises(type(error)):
        scenes.write_scenes(tmp_path / 'deep' / 'data', **FEW)
    assert list((tmp_path / 'deep').iterdir()) == []


def test_an_interrupted_rewrite_leaves_the_old(written, tmp_path, monkeypatch):
    root = tmp_path / 'data'
    scenes.write_scenes(root, **FEW)
    monkeypatch.setattr(scenes, '_write_objects', lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        scenes.write_scenes(root, **{**FEW, 'seed': 1})
    assert contents(root) == contents(written)
    assert list(tmp_path.iterdir()) == [root]


def test_a_complete_folder_is_reused_and_one_of_other_parameters_replaced(tmp_path, monkeypatch):
    root = tmp_path / 'data'
    scenes.write_scenes(root, **FEW)
    drawn = []
    render = scenes.render_scene
    monkeypatch.setattr(scenes, 'render_scene', lambda seed, **more: drawn.append(seed) or render(seed, **more))
    scenes.write_scenes(root, **FEW)
    assert drawn == []
    scenes.write_scenes(root, **{**FEW, 'unlabelled': 1})
    assert len(drawn) == 1 + 16 + 8
    assert len(list((root / 'unlabelled').iterdir())) == 1
    assert list(tmp_path.iterdir()) == [root]


def test_a_folder_of_somebody_else_is_not_touched(tmp_path):
    (tmp_path / 'thesis.txt').write_text('ten years of work')
    with pytest.raises(FileExistsError, match='choose another folder'):
        scenes.write_scenes(tmp_path, **FEW)
    with pytest.raises(FileExistsError, match='choose another folder'):
        scenes.write_scenes(tmp_path / 'thesis.txt', **FEW)
    assert contents(tmp_path) == {'thesis.txt': b'ten years of work'}


def test_an_empty_folder_is_filled(written, tmp_path):
    (tmp_path / 'data').mkdir()
    scenes.write_scenes(tmp_path / 'data', **FEW)
    assert contents(tmp_path / 'data') == contents(written)


@pytest.mark.parametrize(('change', 'message'), [
    ({'train': 7}, 'train=7.*at least 8'), ({'val': 0}, 'val=0.*at least 8'),
    ({'unlabelled': -1}, 'unlabelled=-1.*0 or more'), ({'size': 47}, 'size=47.*48 or more'),
    ({'seed': -1}, 'negative')])
def test_wrong_numbers_are_refused_and_nothing_is_written(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        scenes.write_scenes(tmp_path / 'data', **{**FEW, **change})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('label', [-1, 8])
def test_a_label_that_is_no_class_is_refused(label):
    with pytest.raises(ValueError, match=f'label={label} is no class: take 0 to 7'):
        scenes.render_object(0, label)


def test_stamp_names_the_parameters(written):
    stamp = json.loads((written / scenes.STAMP).read_text(encoding='utf-8'))
    assert {name: stamp[name] for name in FEW} == FEW
