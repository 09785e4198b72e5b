"""Generated scenes: the same bytes on every machine, exact labels, and color is not enough to tell the class."""
import hashlib

import cv2
import numpy as np
import pytest

from mae_backbone.quickstart import scenes


@pytest.fixture(scope='module')
def many() -> list[scenes.Scene]:
    return [scenes.render_scene(seed) for seed in range(250)]


def test_arrays_are_the_same_bytes_on_every_machine():
    # Drawing uses integer arithmetic only. An earlier version gave the same bytes with NumPy 1.26, 2.2 and 2.4 and
    # OpenCV 4.8, 4.10, 4.11, 4.12 and 5.0 on x86-64.
    digest = hashlib.sha256()
    for seed in range(20):
        for array in scenes.render_scene(seed):
            digest.update(np.ascontiguousarray(array))
        digest.update(scenes.render_object(seed, seed % len(scenes.CLASSES)))
    assert digest.hexdigest() == '1e8f216d1e9b9b6c58eb2a833c4c3a29fb0cd56378d9b5ef2079b92795b5e570'


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


def test_objects_are_painted_inside_their_masks():
    """Painting an object changes pixels inside its mask, nearly all, and none outside."""
    canvas = scenes._Canvas(np.random.default_rng(3), 96)
    canvas.paint_stuff()
    before = canvas.image.copy()
    canvas.paint_object(0, radius=(20, 20), center=(50, 50))
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


def test_mean_color_is_not_enough_to_tell_the_class(many):
    colors = np.stack([scene.image[mask].mean(0) for scene in many for mask in scene.masks])
    labels = np.concatenate([scene.labels for scene in many])
    chance = 1 / len(scenes.CLASSES)
    assert len(labels) > 600
    assert chance + 0.15 < nearest_centroid_accuracy(colors, labels) < 0.55


def test_shape_and_texture_tell_the_class():
    """How convex an object is, how it fills its box, how lopsided its brightness: three plain measures beat chance."""
    features, labels = [], []
    for seed in range(240):
        canvas = scenes._Canvas(np.random.default_rng(seed), 96)
        canvas.paint_stuff()
        canvas.paint_object(seed % 8, radius=(26, 40), center=(45, 55))
        (mask,), _, _ = canvas.visible_objects()
        hull = cv2.convexHull(np.argwhere(mask).astype(np.int32))
        _, (width, height), _ = cv2.minAreaRect(hull)
        gray = canvas.develop()[mask].mean(-1)
        features.append((mask.sum() / cv2.contourArea(hull), cv2.contourArea(hull) / (width * height),
                         abs(np.median(gray) - gray.mean()) / gray.std()))
        labels.append(seed % 8)
    features = np.array(features)
    assert nearest_centroid_accuracy((features - features.mean(0)) / features.std(0), np.array(labels)) > 0.4


@pytest.mark.parametrize('label', [-1, 8])
def test_a_label_that_is_not_a_class_is_refused(label):
    with pytest.raises(ValueError, match=f'label={label} is not a class: use 0 to 7'):
        scenes.render_object(0, label)
