"""Generated scenes with exact boxes, masks, segments and classes: the data of `tools/quickstart.py`.

    stuff -> clutter -> objects -> clutter -> light, blur, noise -> image
                           |
                           +-> owner of each pixel -> visible masks, segments

A class is a texture on a shape. Each texture and each shape belongs to two classes, and clutter wears the same textures
on other shapes and the same shapes without texture: only texture and shape together tell the class. Each texture tends
to a color; sizes, directions and light are random. Textures repeat about once in an eighth of the side: patches of
that size show what they are, and their neighbors tell how they go on, without which a MAE has nothing to learn.

Arrays are the same bytes on every machine: pictures are drawn in integers from random integers, because NumPy's `sin`,
`normal` and `uniform` may differ in the last bit between processors, and so may OpenCV's means.
"""
import itertools
import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.random import Generator

STUFF = ('clutter', 'cloud', 'grass', 'water')
# texture-shape, in alphabetical order: folders of images number their classes alike
CLASSES = ('checked-disc', 'checked-triangle', 'dotted-cross', 'dotted-triangle',
           'speckled-cross', 'speckled-star', 'striped-disc', 'striped-star')
SEGMENTS = STUFF + CLASSES

# the mean color (RGB) that each texture of a class tends to, as far from each other as corners of a cube can be
TINTS = {'checked': (178, 178, 178), 'dotted': (178, 78, 78), 'speckled': (78, 178, 78), 'striped': (78, 78, 178)}
TINT_SPREAD = 30  # how far from it, in each channel: a third of the way to the next one

SMALLEST_SIZE = 48  # below it the period of the finest texture falls under six pixels

ONE = 1024  # the unit of DIRECTIONS and of the vertices in SHAPES
DIRECTIONS = [(round(ONE * math.cos(turn)), round(ONE * math.sin(turn))) for turn in np.arange(256) * math.pi / 128]
# the phase of a wave, 256 a period, -> its height: rounded off for water, nearly square for stripes
SWELL = np.array([128 + sin * 127 // ONE for _, sin in DIRECTIONS], np.uint8)
WAVE = np.array([128 + sin * 300 // ONE for _, sin in DIRECTIONS]).clip(0, 255).astype(np.uint8)


class Scene(NamedTuple):
    """A picture and what is to be found in it."""

    image: np.ndarray     # (H, W, 3) uint8, RGB
    masks: np.ndarray     # (N, H, W) bool, the visible part of each object: no pixel is in two, N >= 1
    labels: np.ndarray    # (N,) int64, indices of CLASSES
    segments: np.ndarray  # (H, W) uint8, indices of SEGMENTS


def render_scene(seed: int, *, size: int = 96) -> Scene:
    """A scene of `size` x `size` pixels: two or three kinds of stuff, clutter, and 1 to 5 objects that hide each other.

    Objects of which little is visible count as clutter. Raises ValueError if `size` is below 48 or `seed` negative.
    """
    check_size(size)
    attempts = (_draw_scene(np.random.default_rng([seed, attempt]), size) for attempt in itertools.count())
    return next(scene for scene in attempts if len(scene.labels))  # rarely none: all under clutter or over the rim


def _draw_scene(rng: Generator, size: int) -> Scene:
    canvas = _Canvas(rng, size)
    canvas.paint_stuff()
    canvas.paint_clutter(2)
    for label in rng.integers(len(CLASSES), size=canvas.between(2, 5)):
        canvas.paint_object(int(label), radius=(13, 27), center=(10, 90))
    canvas.paint_clutter(1)
    return Scene(canvas.develop(), *canvas.visible_objects())


def render_object(seed: int, label: int, *, size: int = 96) -> np.ndarray:
    """An image (size, size, 3) uint8, RGB, of one large object of class `label` between clutter.

    Raises ValueError if `size` is below 48, `seed` negative or `label` no index of CLASSES.
    """
    check_size(size)
    if not 0 <= label < len(CLASSES):
        raise ValueError(f'label={label} is no class: take 0 to {len(CLASSES) - 1}, an index of scenes.CLASSES')
    canvas = _Canvas(np.random.default_rng([seed, label]), size)
    canvas.paint_stuff()
    canvas.paint_clutter(2)
    canvas.paint_object(label, radius=(32, 46), center=(42, 58))
    canvas.paint_clutter(1)
    return canvas.develop()


def check_size(size: int) -> None:
    """Raises ValueError where a picture of `size` x `size` pixels is too small."""
    if size < SMALLEST_SIZE:
        raise ValueError(f'size={size} is too small to show textures: take {SMALLEST_SIZE} or more')


class Area(NamedTuple):
    """A rectangle of pixels by their places from the center of the picture."""

    x: np.ndarray  # (1, W) int32
    y: np.ndarray  # (H, 1) int32

    @property
    def shape(self) -> tuple[int, int]:
        return self.y.size, self.x.size


@lru_cache(maxsize=4)
def _whole(size: int) -> Area:
    line = np.arange(size, dtype=np.int32) - size // 2
    return Area(line[None, :], line[:, None])


# Textures: (H, W) uint8 over an area, 0 to 255 from one color to the other; `period` in 1/16 pixel.

def _turned(rng: Generator, area: Area, period: int) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates along and across a random direction, (H, W) int32 each, 256 a period."""
    cos, sin = DIRECTIONS[rng.integers(256)]
    shift_u, shift_v = rng.integers(256, size=2).tolist()
    return ((area.x * cos + area.y * sin) * 4 // period + shift_u,
            (area.y * cos - area.x * sin) * 4 // period + shift_v)


def _striped(rng: Generator, area: Area, period: int) -> np.ndarray:
    u, _ = _turned(rng, area, period)
    return WAVE[u & 255]


def _checked(rng: Generator, area: Area, period: int) -> np.ndarray:
    u, v = _turned(rng, area, period * 3 // 2)
    along = WAVE[u & 255]
    return np.where(v & 128, along, 255 - along)


def _dotted(rng: Generator, area: Area, period: int) -> np.ndarray:
    u, v = _turned(rng, area, period)
    squared_distance = ((u & 255) - 128) ** 2 + ((v & 255) - 128) ** 2
    return ((88 ** 2 - squared_distance) // 8 + 128).clip(0, 255).astype(np.uint8)


def _speckled(rng: Generator, area: Area, period: int) -> np.ndarray:
    side = period // 32
    total = rng.integers(256, size=area.shape, dtype=np.uint8)
    for _ in range(2):  # two unscaled boxes make a tent of weight side**4; sums of integers are exact, means are not
        total = cv2.boxFilter(total, cv2.CV_32S, (side, side), normalize=False)
    contrast = 3  # spreads one standard deviation of the tent's mean, 49 / side, over half the range
    return ((total - 128 * side ** 4) * contrast // side ** 3 + 128).clip(0, 255).astype(np.uint8)


def _cloud(rng: Generator, area: Area, period: int) -> np.ndarray:
    height, width = area.shape
    octaves = []
    for cell in (4 * period, 2 * period, period):
        coarse = rng.integers(256, size=(height * 16 // cell + 1, width * 16 // cell + 1), dtype=np.uint8)
        octaves.append(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR_EXACT))
    return octaves[0] // 2 + octaves[1] // 4 + octaves[2] // 4


def _grass(rng: Generator, area: Area, period: int) -> np.ndarray:
    u, v = _turned(rng, area, period)
    heights = rng.integers(256, size=(64, 64), dtype=np.uint8)
    blade = (u >> 6) & 63
    root = rng.integers(1024, size=64, dtype=np.int32)[blade]
    return heights[blade, ((v + root) >> 10) & 63]


def _water(rng: Generator, area: Area, period: int) -> np.ndarray:
    u, _ = _turned(rng, area, period)
    return SWELL[(u + 2 * _cloud(rng, area, 2 * period).astype(np.int32)) & 255]


def _plain(_: Generator, area: Area, period: int) -> np.ndarray:
    return np.zeros(area.shape, np.uint8)


TEXTURES: dict[str, Callable[[Generator, Area, int], np.ndarray]] = {
    'striped': _striped, 'checked': _checked, 'dotted': _dotted, 'speckled': _speckled,
    'cloud': _cloud, 'grass': _grass, 'water': _water, 'plain': _plain}


# Shapes: vertices (V, 2) int64, within about ONE of the center.

def _ring(*radii: int, vertices: int) -> np.ndarray:
    """Vertices around the center, at each of `radii` in turn."""
    return np.array([DIRECTIONS[256 * i // vertices] for i in range(vertices)]) * [
        [radii[i % len(radii)]] for i in range(vertices)] // ONE


def _cross(arm: int) -> np.ndarray:
    corner = np.array([(ONE, arm), (arm, arm), (arm, ONE)])
    quarter_turn = np.array([(0, 1), (-1, 0)])
    return np.concatenate([corner @ np.linalg.matrix_power(quarter_turn, turns) for turns in range(4)])


SHAPES = {'disc': _ring(ONE, vertices=32), 'triangle': _ring(ONE * 5 // 4, vertices=3),
          'star': _ring(ONE * 5 // 4, ONE // 2, vertices=10), 'cross': _cross(ONE * 3 // 8),
          'bar': np.array([(2 * ONE, 200), (-2 * ONE, 200), (-2 * ONE, -200), (2 * ONE, -200)]),
          'square': np.array([(800, 800), (-800, 800), (-800, -800), (800, -800)])}


def _inside(x: np.ndarray, y: np.ndarray, *, size: int) -> np.ndarray:
    """Pixels (size, size) bool whose center lies in the polygon with corners `x`, `y` (V,), in 1/16 pixel.

    Not cv2.fillPoly: OpenCV 4.11 gives other pixels than 4.10.
    """
    next_x, next_y = np.roll(x, -1), np.roll(y, -1)
    center = np.arange(8, size * 16, 16)
    row, edge = ((y <= center[:, None]) != (next_y <= center[:, None])).nonzero()  # each edge that crosses the row
    crossing = x[edge] + (center[row] - y[edge]) * (next_x - x)[edge] // (next_y - y)[edge]
    first_right = ((crossing + 8) // 16).clip(0, size)
    crossings = np.bincount(row * (size + 1) + first_right, minlength=size * (size + 1)).reshape(size, size + 1)
    return (crossings[:, :size].cumsum(1) & 1).astype(bool)


class _Canvas:
    """A picture under construction: its pixels, and the number of the last thing painted over each of them."""

    def __init__(self, rng: Generator, size: int) -> None:
        self.rng, self.size = rng, size
        self.image = np.zeros((size, size, 3), np.uint8)
        self.owner = np.zeros((size, size), np.uint8)  # indices of STUFF, above them of `objects`
        self.objects: list[tuple[int, int]] = []       # label, area in pixels when it was painted

    def between(self, low: int, high: int) -> int:
        """A random integer from `low` to `high`, both included."""
        return int(self.rng.integers(low, high + 1))

    def percent(self, low: int, high: int) -> int:
        """A random length between `low` and `high` percent of the side of the picture, in 1/16 pixel."""
        return self.between(low * self.size * 16 // 100, high * self.size * 16 // 100)

    def paint_stuff(self) -> None:
        """Two or three kinds of stuff, in any order, with wavy borders between them."""
        whole = _whole(self.size)
        for index, kind in enumerate(self.rng.permutation(np.arange(1, len(STUFF)))[:self.between(2, 3)]):
            cos, sin = DIRECTIONS[self.between(0, 255)]
            wave = _cloud(self.rng, whole, self.size).astype(np.int32) - 128  # the finest at 1/16 of the side
            height = (whole.x * cos + whole.y * sin) * 100 // (ONE * self.size) + wave // 8
            region = height > self.between(-15, 15) if index else np.ones_like(height, bool)
            self._fill(region, STUFF[kind], owner=int(kind), contrast=(40, 160))  # quieter than objects

    def paint_clutter(self, most: int) -> None:
        """1 to `most` things that are no object: textures of classes on other shapes, or any shape in one color."""
        for _ in range(self.between(1, most)):
            textured = self.between(0, 1)
            shape = ('blob', 'bar', 'square')[self.between(0, 2)] if textured else [*SHAPES][self.between(0, 5)]
            texture = [*TEXTURES][self.between(0, 3)] if textured else 'plain'
            region = self._outline(shape, radius=(6, 14), center=(3, 97))  # some of it is inside
            self._fill(region, texture, owner=STUFF.index('clutter'), contrast=(150, 600))

    def paint_object(self, label: int, *, radius: tuple[int, int], center: tuple[int, int]) -> None:
        """An object of class `label`; `radius` and both coordinates of its `center` from ranges in percent."""
        texture, shape = CLASSES[label].split('-')
        region = self._outline(shape, radius=radius, center=center)
        self._fill(region, texture, owner=len(STUFF) + len(self.objects), contrast=(150, 600))
        self.objects.append((label, int(region.sum())))

    def _outline(self, shape: str, *, radius: tuple[int, int], center: tuple[int, int]) -> np.ndarray:
        """Where a turned, squeezed, slightly dented `shape` lies, (H, W) bool; ranges in percent of the picture."""
        corners = self._blob() if shape == 'blob' else SHAPES[shape]
        dents = self.rng.integers(-60, 61, size=corners.shape)
        length = self.percent(*radius)
        x, y = ((corners + dents) * [length, length * self.between(70, 100) // 100] // ONE).T
        cos, sin = DIRECTIONS[self.between(0, 255)]
        return _inside((x * cos - y * sin) // ONE + self.percent(*center),
                       (x * sin + y * cos) // ONE + self.percent(*center), size=self.size)

    def _blob(self) -> np.ndarray:
        """Corners of a shape without name, (9, 2)."""
        return _ring(*self.rng.integers(ONE * 2 // 5, ONE * 6 // 5, size=9).tolist(), vertices=9)

    def _fill(self, region: np.ndarray, texture: str, *, owner: int, contrast: tuple[int, int]) -> None:
        """Paint `region` with a texture of random scale and direction, in two colors, under its own light.

        The colors are random, but for a mean within TINT_SPREAD of the texture's in TINTS, where it has one.
        """
        covered = region.view(np.uint8)
        left, top, width, height = cv2.boundingRect(covered)
        box = np.s_[top:top + height, left:left + width]
        area = Area(_whole(self.size).x[:, box[1]], _whole(self.size).y[box[0]])
        first, second = self._colors(*contrast)
        if texture in TINTS:
            spread = self.rng.integers(-TINT_SPREAD, TINT_SPREAD + 1, size=3, dtype=np.int32)
            shift = np.array(TINTS[texture], np.int32) + spread - (first + second) // 2
            first, second = (first + shift).clip(5, 250), (second + shift).clip(5, 250)
        ramp = first + (second - first) * np.arange(256, dtype=np.int32)[:, None] // 255
        pattern = TEXTURES[texture](self.rng, area, self.percent(12, 18))
        colors = np.take(ramp, pattern, axis=0)  # 3 x as fast as ramp[]
        cv2.copyTo(_lit(colors, self._light(area, 40)), covered[box], self.image[box])
        self.owner[region] = owner

    def _colors(self, low: int, high: int) -> np.ndarray:
        """Two colors (2, 3) whose channels differ by `low` to `high` in sum."""
        while True:
            pair = self.rng.integers(15, 241, size=(2, 3), dtype=np.int32)
            if low <= abs(pair[0] - pair[1]).sum() <= high:
                return pair

    def _light(self, area: Area, percent: int) -> np.ndarray:
        """Light (H, W) int32 over `area`: 256 in the center of the picture, up to `percent` more or less at the rim."""
        cos, sin = DIRECTIONS[self.between(0, 255)]
        slope = self.between(0, percent) * 512 // 100
        return 256 + (area.x * cos + area.y * sin) * slope // (ONE * self.size)

    def develop(self) -> np.ndarray:
        """The finished image (H, W, 3) uint8: under one light, a little blurred, with noise of the sensor."""
        lit = _lit(self.image.astype(np.int32), self._light(_whole(self.size), 40))
        wide = np.pad(lit, ((1, 1), (1, 1), (0, 0)), mode='edge').astype(np.int16)
        rows = wide[:-2] + 2 * wide[1:-1] + wide[2:]
        blurred = rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:] >> 4
        noise = self.rng.integers(-3, 4, size=blurred.shape, dtype=np.int8)
        return (blurred + noise).clip(0, 255).astype(np.uint8)

    def visible_objects(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Masks, labels, segments as in Scene; an object below 1/150 of the picture, or mostly hidden, is clutter."""
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
    """`colors` (H, W, 3) int32 under `light` (H, W), 256 for as they are -> uint8."""
    return np.minimum(colors * light[..., None] >> 8, 255).astype(np.uint8)
