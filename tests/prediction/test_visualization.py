"""Predictions drawn: at the right place, in the right color, and nothing else."""
import numpy as np
import pytest

from mae_backbone.prediction.instances import CroppedRLE, Objects
from mae_backbone.prediction.visualization import draw_labels, draw_objects, picture_scale

RED, BLUE = (255, 0, 0), (0, 0, 255)


def objects(masks: bool) -> Objects:
    """A class-1 object in the lower right corner of an image of 480x600."""
    pixels = np.zeros((480, 600), bool)
    pixels[300:480, 400:600] = True
    return Objects(np.float32([[400, 300, 600, 480]]), np.float32([0.9]), np.array([1]),
                   [CroppedRLE.of(pixels)] if masks else None)


@pytest.mark.parametrize('masks', [True, False])
def test_an_object_is_drawn_where_it_is_in_the_color_of_its_class(masks):
    image = np.full((480, 600, 3), 100, np.uint8)
    picture = draw_objects(image, objects(masks), ('a', 'b'), (RED, BLUE))
    assert picture.shape == image.shape
    assert tuple(picture[300, 550]) == BLUE, 'the box'
    assert tuple(picture[400, 500]) == ((50, 50, 50 + 127) if masks else (100, 100, 100)), 'half of the image shows'
    assert (picture[:250] == 100).all()
    assert (picture[:, :380] == 100).all()
    assert (image == 100).all(), 'the image itself stays'


def test_objects_of_a_single_class_have_colors_of_their_own():
    image = np.zeros((480, 600, 3), np.uint8)
    two = Objects(np.float32([[10, 10, 100, 100], [200, 200, 300, 300]]), np.float32([0.9, 0.8]), np.array([0, 0]))
    picture = draw_objects(image, two, ('a',), (RED,))
    assert tuple(picture[60, 10]) != tuple(picture[250, 200])


def test_a_single_class_is_not_named_at_each_object():
    image = np.zeros((480, 600, 3), np.uint8)
    one = Objects(np.float32([[100, 100, 500, 400]]), np.float32([0.9]), np.array([0]))
    bare = draw_objects(image, one, ('name',), (RED,), with_scores=False)
    assert not bare[120:380, 120:480].any(), 'a box alone'
    assert not bare[:90].any()
    named = draw_objects(image, one, ('name', 'b'), (RED, BLUE))
    scored = draw_objects(image, one, ('name',), (RED,))
    assert bare.any(-1).sum() < scored.any(-1).sum() < named.any(-1).sum()


def test_nothing_found_is_the_image():
    image = np.random.default_rng(0).integers(0, 256, (480, 480, 3), np.uint8)
    none = Objects(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), [])
    assert (draw_objects(image, none, ('a',), (RED,)) == image).all()


def test_labels_are_mixed_in_and_those_without_color_show_the_image():
    image = np.full((480, 500, 3), 100, np.uint8)
    labels = np.zeros((480, 500), np.uint8)
    labels[:, 200:] = 1
    labels[:, 400:] = 255
    picture = draw_labels(image, labels, (RED, BLUE))
    found = picture[300, [100, 300, 450]].astype(int)
    assert np.abs(found - [(178, 50, 50), (50, 50, 178), (100, 100, 100)]).max() <= 1


@pytest.mark.parametrize('classes', [2, 255, 256, 300])
def test_every_class_has_its_color_however_many_there_are(classes):
    image, colors = np.zeros((480, 500, 3), np.uint8), [(i % 200, i // 200, 250) for i in range(classes)]
    labels = np.full((480, 500), classes - 1, np.uint8 if classes <= 256 else np.uint16)
    assert np.abs(draw_labels(image, labels, colors)[0, 0] - np.array(colors[-1]) / 2).max() <= 0.5


@pytest.mark.parametrize('shape', [(1, 5000), (5000, 2), (9, 300), (1, 1)])
def test_pictures_of_stripes_are_not_enlarged_without_end(shape):
    image = np.zeros((*shape, 3), np.uint8)
    assert max(draw_labels(image, np.zeros(shape, np.uint8), (RED,)).shape) <= max(4096, *shape)


@pytest.mark.parametrize(('shape', 'scale'), [((64, 64), 8), ((256, 300), 2), ((480, 640), 1), ((4000, 3000), 1)])
def test_small_images_are_drawn_larger_by_whole_pixels(shape, scale):
    assert picture_scale(np.zeros((*shape, 3), np.uint8)) == scale
