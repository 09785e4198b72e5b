"""Drawn predictions: at the right place, in the right color, and nothing else."""
import numpy as np
import pytest

from mae_backbone.prediction.instances import CroppedRLE, Instances
from mae_backbone.prediction.visualization import draw_instances, draw_labels, figure_scale

RED, BLUE = (255, 0, 0), (0, 0, 255)


def instances(masks: bool) -> Instances:
    """A class-1 object in the lower right corner of an image of 480x600."""
    pixels = np.zeros((480, 600), bool)
    pixels[300:480, 400:600] = True
    return Instances(np.float32([[400, 300, 600, 480]]), np.float32([0.9]), np.array([1]),
                   [CroppedRLE.from_mask(pixels)] if masks else None)


@pytest.mark.parametrize('masks', [True, False])
def test_instance_is_drawn_in_place_in_the_color_of_its_class(masks):
    image = np.full((480, 600, 3), 100, np.uint8)
    figure = draw_instances(image, instances(masks), ('a', 'b'), (RED, BLUE))
    assert figure.shape == image.shape
    assert tuple(figure[300, 550]) == BLUE, 'the box'
    assert tuple(figure[400, 500]) == ((50, 50, 50 + 127) if masks else (100, 100, 100)), 'half of the image shows'
    assert (figure[:250] == 100).all()
    assert (figure[:, :380] == 100).all()
    assert (image == 100).all(), 'the image itself stays'


def test_instances_of_a_single_class_have_colors_of_their_own():
    image = np.zeros((480, 600, 3), np.uint8)
    two = Instances(np.float32([[10, 10, 100, 100], [200, 200, 300, 300]]), np.float32([0.9, 0.8]), np.array([0, 0]))
    figure = draw_instances(image, two, ('a',), (RED,))
    assert tuple(figure[60, 10]) != tuple(figure[250, 200])


def test_name_of_a_single_class_is_not_drawn():
    image = np.zeros((480, 600, 3), np.uint8)
    one = Instances(np.float32([[100, 100, 500, 400]]), np.float32([0.9]), np.array([0]))
    bare = draw_instances(image, one, ('name',), (RED,), with_scores=False)
    assert not bare[120:380, 120:480].any(), 'only a box'
    assert not bare[:90].any()
    named = draw_instances(image, one, ('name', 'b'), (RED, BLUE))
    scored = draw_instances(image, one, ('name',), (RED,))
    assert bare.any(-1).sum() < scored.any(-1).sum() < named.any(-1).sum()


def test_names_that_are_not_utf_8_are_drawn():
    image = np.zeros((480, 600, 3), np.uint8)
    assert draw_instances(image, instances(masks=False), ('a', 'gr\udcfcn'), (RED, BLUE)).any()


def test_no_instances_leave_the_image():
    image = np.random.default_rng(0).integers(0, 256, (480, 480, 3), np.uint8)
    none = Instances(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), [])
    assert (draw_instances(image, none, ('a',), (RED,)) == image).all()


def test_labels_are_blended_unless_they_have_no_color():
    image = np.full((480, 500, 3), 100, np.uint8)
    labels = np.zeros((480, 500), np.uint8)
    labels[:, 200:] = 1
    labels[:, 400:] = 255
    figure = draw_labels(image, labels, (RED, BLUE))
    found = figure[300, [100, 300, 450]].astype(int)
    assert np.abs(found - [(178, 50, 50), (50, 50, 178), (100, 100, 100)]).max() <= 1


@pytest.mark.parametrize('classes', [2, 255, 256, 300])
def test_every_class_has_its_color(classes):
    image, colors = np.zeros((480, 500, 3), np.uint8), [(i % 200, i // 200, 250) for i in range(classes)]
    labels = np.full((480, 500), classes - 1, np.uint8 if classes <= 256 else np.uint16)
    assert np.abs(draw_labels(image, labels, colors)[0, 0] - np.array(colors[-1]) / 2).max() <= 0.5


@pytest.mark.parametrize('shape', [(1, 5000), (5000, 2), (9, 300), (1, 1)])
def test_figures_of_stripes_have_limited_size(shape):
    image = np.zeros((*shape, 3), np.uint8)
    assert max(draw_labels(image, np.zeros(shape, np.uint8), (RED,)).shape) <= max(4096, *shape)


@pytest.mark.parametrize(('shape', 'scale'), [((64, 64), 8), ((256, 300), 2), ((480, 640), 1), ((4000, 3000), 1)])
def test_small_images_are_enlarged_by_integers(shape, scale):
    assert figure_scale(np.zeros((*shape, 3), np.uint8)) == scale
