"""Generated scenes with exact boxes, masks, segments and classes: the data of the quickstart.

    stuff -> clutter -> objects -> clutter -> light, blur, noise -> image
                           |
                           +-> owner of each pixel -> visible masks, segments

A class is a texture on a shape. Each texture and each shape belongs to two classes, and clutter has the same textures
on other shapes and the same shapes without texture. Only texture and shape together identify a class. Each texture
tends to a color; sizes, directions and light are random. A texture repeats about once in an eighth of the image: a
patch of that size shows what it is, and its neighbors show how it continues. Otherwise an MAE has nothing to learn.

Arrays are the same bytes on every machine because images are computed in integers from random integers: NumPy's `sin`,
`normal` and `uniform` may differ in the last bit between CPUs, and so may OpenCV's means.
"""
import itertools
from typing import NamedTuple

import cv2
import numpy as np
from numpy.random import Generator

from mae_backbone.quickstart.patterns import DIRECTIONS, ONE, SHAPES, TEXTURES, Area, inside_polygon, ring, whole_area

STUFF = ('clutter', 'cloud', 'grass', 'water')
# texture-shape, in alphabetical order, as class folders are numbered
CLASSES = ('checked-disc', 'checked-triangle', 'dotted-cross', 'dotted-triangle',
           'speckled-cross', 'speckled-star', 'striped-disc', 'striped-star')
SEGMENTS = STUFF + CLASSES

# Mean color (RGB) that each texture tends to, as far apart as corners of a cube can be
TINTS = {'checked': (178, 178, 178), 'dotted': (178, 78, 78), 'speckled': (78, 178, 78), 'striped': (78, 78, 178)}
TINT_SPREAD = 30  # largest deviation from it in each channel: about a third of the distance to the next one

SMALLEST_SIZE = 48  # in smaller images the period of the finest texture is below six pixels


class Scene(NamedTuple):
    """An image and its labels."""

    image: np.ndarray     # (H, W, 3) uint8, RGB
    masks: np.ndarray     # (N, H, W) bool, visible part of each object; disjoint, N >= 1
    labels: np.ndarray    # (N,) int64, indices of CLASSES
    segments: np.ndarray  # (H, W) uint8, indices of SEGMENTS


def render_scene(seed: int, *, size: int = 96) -> Scene:
    """Renders a scene of `size` x `size` pixels: 2 or 3 kinds of stuff, clutter, and 1 to 5 objects that may overlap.

    Objects that are mostly hidden count as clutter.

    Raises:
        ValueError: `size` is below 48, or `seed` is negative.
    """
    check_size(size)
    attempts = (_draw_scene(np.random.default_rng([seed, attempt]), size) for attempt in itertools.count())
    return next(scene for scene in attempts if len(scene.labels))  # rarely none: all hidden or outside


def _draw_scene(rng: Generator, size: int) -> Scene:
    canvas = _Canvas(rng, size)
    canvas.paint_stuff()
    canvas.paint_clutter(2)
    for label in rng.integers(len(CLASSES), size=canvas.between(2, 5)):
        canvas.paint_object(int(label), radius=(13, 27), center=(10, 90))
    canvas.paint_clutter(1)
    return Scene(canvas.develop(), *canvas.visible_objects())


def render_object(seed: int, label: int, *, size: int = 96) -> np.ndarray:
    """Renders an image (size, size, 3) uint8, RGB, of one large object of class `label` between clutter.

    Raises:
        ValueError: `size` is below 48, `seed` is negative, or `label` is not an index of CLASSES.
    """
    check_size(size)
    if not 0 <= label < len(CLASSES):
        raise ValueError(f'label={label} is not a class: use 0 to {len(CLASSES) - 1}, an index of scenes.CLASSES')
    canvas = _Canvas(np.random.default_rng([seed, label]), size)
    canvas.paint_stuff()
    canvas.paint_clutter(2)
    canvas.paint_object(label, radius=(32, 46), center=(42, 58))
    canvas.paint_clutter(1)
    return canvas.develop()


def check_size(size: int) -> None:
    """Raises ValueError if an image of `size` x `size` pixels is too small."""
    if size < SMALLEST_SIZE:
        raise ValueError(f'size={size} is too small to show textures: use {SMALLEST_SIZE} or more')


class _Canvas:
    """An image while it is painted: its pixels, and the number of the last painted object of each pixel."""

    def __init__(self, rng: Generator, size: int) -> None:
        self.rng, self.size = rng, size
        self.image = np.zeros((size, size, 3), np.uint8)
        self.owner = np.zeros((size, size), np.uint8)  # indices of STUFF, then of `objects`
        self.objects: list[tuple[int, int]] = []       # label, painted area in pixels

    def between(self, low: int, high: int) -> int:
        """Returns a random integer from `low` to `high`, both included."""
        return int(self.rng.integers(low, high + 1))

    def percent(self, low: int, high: int) -> int:
        """Returns a random length between `low` and `high` percent of the side of the image, in 1/16 pixel."""
        return self.between(low * self.size * 16 // 100, high * self.size * 16 // 100)

    def paint_stuff(self) -> None:
        """Paints two or three kinds of stuff, in any order, with wavy borders between them."""
        whole = whole_area(self.size)
        for index, kind in enumerate(self.rng.permutation(np.arange(1, len(STUFF)))[:self.between(2, 3)]):
            cos, sin = DIRECTIONS[self.between(0, 255)]
            wave = TEXTURES['cloud'](self.rng, whole, self.size).astype(np.int32) - 128  # finest: 1/16 of the side
            height = (whole.x * cos + whole.y * sin) * 100 // (ONE * self.size) + wave // 8
            region = height > self.between(-15, 15) if index else np.ones_like(height, bool)
            self._fill(region, STUFF[kind], owner=int(kind), contrast=(40, 160))  # quieter than objects

    def paint_clutter(self, most: int) -> None:
        """Paints 1 to `most` things that are not objects: textures on other shapes, or shapes in one color."""
        for _ in range(self.between(1, most)):
            textured = self.between(0, 1)
            shape = ('blob', 'bar', 'square')[self.between(0, 2)] if textured else [*SHAPES][self.between(0, 5)]
            texture = [*TEXTURES][self.between(0, 3)] if textured else 'plain'
            region = self._outline(shape, radius=(6, 14), center=(3, 97))  # partly inside the image
            self._fill(region, texture, owner=STUFF.index('clutter'), contrast=(150, 600))

    def paint_object(self, label: int, *, radius: tuple[int, int], center: tuple[int, int]) -> None:
        """Paints an object of class `label`. `radius` and `center` (x and y) are ranges in percent of the side."""
        texture, shape = CLASSES[label].split('-')
        region = self._outline(shape, radius=radius, center=center)
        self._fill(region, texture, owner=len(STUFF) + len(self.objects), contrast=(150, 600))
        self.objects.append((label, int(region.sum())))

    def _outline(self, shape: str, *, radius: tuple[int, int], center: tuple[int, int]) -> np.ndarray:
        """Returns the pixels (H, W) bool of a rotated, squeezed, dented `shape`; ranges in percent of the side."""
        corners = self._blob() if shape == 'blob' else SHAPES[shape]
        dents = self.rng.integers(-60, 61, size=corners.shape)
        length = self.percent(*radius)
        x, y = ((corners + dents) * [length, length * self.between(70, 100) // 100] // ONE).T
        cos, sin = DIRECTIONS[self.between(0, 255)]
        return inside_polygon((x * cos - y * sin) // ONE + self.percent(*center),
                       (x * sin + y * cos) // ONE + self.percent(*center), size=self.size)

    def _blob(self) -> np.ndarray:
        """Returns the corners (9, 2) of an irregular shape."""
        return ring(*self.rng.integers(ONE * 2 // 5, ONE * 6 // 5, size=9).tolist(), vertices=9)

    def _fill(self, region: np.ndarray, texture: str, *, owner: int, contrast: tuple[int, int]) -> None:
        """Paints `region` with a texture of random scale and direction, in two colors, under its own light.

        The colors are random. If the texture is in TINTS, their mean is within TINT_SPREAD of it.
        """
        covered = region.view(np.uint8)
        left, top, width, height = cv2.boundingRect(covered)
        box = np.s_[top:top + height, left:left + width]
        area = Area(whole_area(self.size).x[:, box[1]], whole_area(self.size).y[box[0]])
        first, second = self._colors(*contrast)
        if texture in TINTS:
            spread = self.rng.integers(-TINT_SPREAD, TINT_SPREAD + 1, size=3, dtype=np.int32)
            shift = np.array(TINTS[texture], np.int32) + spread - (first + second) // 2
            first, second = (first + shift).clip(5, 250), (second + shift).clip(5, 250)
        ramp = first + (second - first) * np.arange(256, dtype=np.int32)[:, None] // 255
        pattern = TEXTURES[texture](self.rng, area, self.percent(12, 18))
        colors = np.take(ramp, pattern, axis=0)  # three times as fast as ramp[pattern]
        cv2.copyTo(_lit(colors, self._light(area, 40)), covered[box], self.image[box])
        self.owner[region] = owner

    def _colors(self, low: int, high: int) -> np.ndarray:
        """Returns two colors (2, 3) whose channels differ by `low` to `high` in sum."""
        while True:
            pair = self.rng.integers(15, 241, size=(2, 3), dtype=np.int32)
            if low <= abs(pair[0] - pair[1]).sum() <= high:
                return pair

    def _light(self, area: Area, percent: int) -> np.ndarray:
        """Returns light (H, W) int32: 256 in the center of the image, up to `percent` more or less at its edges."""
        cos, sin = DIRECTIONS[self.between(0, 255)]
        slope = self.between(0, percent) * 512 // 100
        return 256 + (area.x * cos + area.y * sin) * slope // (ONE * self.size)

    def develop(self) -> np.ndarray:
        """Returns the finished image (H, W, 3) uint8: under one light, slightly blurred, with sensor noise."""
        lit = _lit(self.image.astype(np.int32), self._light(whole_area(self.size), 40))
        wide = np.pad(lit, ((1, 1), (1, 1), (0, 0)), mode='edge').astype(np.int16)
        rows = wide[:-2] + 2 * wide[1:-1] + wide[2:]
        blurred = rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:] >> 4
        noise = self.rng.integers(-3, 4, size=blurred.shape, dtype=np.int8)
        return (blurred + noise).clip(0, 255).astype(np.uint8)

    def visible_objects(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns masks, labels and segments as in `Scene`.

        An object counts as clutter if less than 1/150 of the image or at most 40 % of the object is visible.
        """
        masks, labels = [], []
        segments = np.where(self.owner < len(STUFF), self.owner, STUFF.index('clutter')).astype(np.uint8)
        for index, (label, area) in enumerate(self.objects):
            mask = self.owner == len(STUFF) + index
            if mask.sum() * 150 > self.size ** 2 and mask.sum() * 5 > area * 2:
                segments[mask] = len(STUFF) + label
                masks.append(mask)
                labels.append(label)
        return np.array(masks, bool).reshape(-1, self.size, self.size), np.array(labels, np.int64), segments


def _lit(colors: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Colors (H, W, 3) int32 under light (H, W), 256 for unchanged -> (H, W, 3) uint8."""
    return np.minimum(colors * light[..., None] >> 8, 255).astype(np.uint8)
