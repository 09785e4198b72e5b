"""Textures and shapes of generated scenes, computed in integers (see `scenes`)."""
import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.random import Generator

ONE = 1024  # fixed-point unit of DIRECTIONS and of the vertices in SHAPES
DIRECTIONS = [(round(ONE * math.cos(turn)), round(ONE * math.sin(turn))) for turn in np.arange(256) * math.pi / 128]
# Phase of a wave, 256 per period -> its height: smooth for water, nearly square for stripes
SWELL = np.array([128 + sin * 127 // ONE for _, sin in DIRECTIONS], np.uint8)
WAVE = np.array([128 + sin * 300 // ONE for _, sin in DIRECTIONS]).clip(0, 255).astype(np.uint8)


class Area(NamedTuple):
    """Coordinates of a rectangle of pixels, relative to the center of the image."""

    x: np.ndarray  # (1, W) int32
    y: np.ndarray  # (H, 1) int32

    @property
    def shape(self) -> tuple[int, int]:
        return self.y.size, self.x.size


@lru_cache(maxsize=4)
def whole_area(size: int) -> Area:
    """Returns the area of a whole image of `size` x `size` pixels."""
    line = np.arange(size, dtype=np.int32) - size // 2
    return Area(line[None, :], line[:, None])


# Textures return (H, W) uint8 over an area: 0 is one color, 255 the other. `period` is in 1/16 pixel.

def _rotated(rng: Generator, area: Area, period: int) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates along and across a random direction, (H, W) int32 each, 256 per period."""
    cos, sin = DIRECTIONS[rng.integers(256)]
    shift_u, shift_v = rng.integers(256, size=2).tolist()
    return ((area.x * cos + area.y * sin) * 4 // period + shift_u,
            (area.y * cos - area.x * sin) * 4 // period + shift_v)


def _striped(rng: Generator, area: Area, period: int) -> np.ndarray:
    u, _ = _rotated(rng, area, period)
    return WAVE[u & 255]


def _checked(rng: Generator, area: Area, period: int) -> np.ndarray:
    u, v = _rotated(rng, area, period * 3 // 2)
    along = WAVE[u & 255]
    return np.where(v & 128, along, 255 - along)


def _dotted(rng: Generator, area: Area, period: int) -> np.ndarray:
    u, v = _rotated(rng, area, period)
    squared_distance = ((u & 255) - 128) ** 2 + ((v & 255) - 128) ** 2
    return ((88 ** 2 - squared_distance) // 8 + 128).clip(0, 255).astype(np.uint8)


def _speckled(rng: Generator, area: Area, period: int) -> np.ndarray:
    side = period // 32
    total: np.ndarray = rng.integers(256, size=area.shape, dtype=np.uint8)
    for _ in range(2):  # two box sums make a tent of weight side**4; integer sums are exact, means are not
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
    u, v = _rotated(rng, area, period)
    heights = rng.integers(256, size=(64, 64), dtype=np.uint8)
    blade = (u >> 6) & 63
    root = rng.integers(1024, size=64, dtype=np.int32)[blade]
    return heights[blade, ((v + root) >> 10) & 63]


def _water(rng: Generator, area: Area, period: int) -> np.ndarray:
    u, _ = _rotated(rng, area, period)
    return SWELL[(u + 2 * _cloud(rng, area, 2 * period).astype(np.int32)) & 255]


def _plain(_: Generator, area: Area, period: int) -> np.ndarray:
    return np.zeros(area.shape, np.uint8)


TEXTURES: dict[str, Callable[[Generator, Area, int], np.ndarray]] = {
    'striped': _striped, 'checked': _checked, 'dotted': _dotted, 'speckled': _speckled,
    'cloud': _cloud, 'grass': _grass, 'water': _water, 'plain': _plain}


# Shapes are vertices (V, 2) int64, about ONE from the center.

def ring(*radii: int, vertices: int) -> np.ndarray:
    """Returns vertices around the center, with the distances `radii` in turn."""
    return np.array([DIRECTIONS[256 * i // vertices] for i in range(vertices)]) * [
        [radii[i % len(radii)]] for i in range(vertices)] // ONE


def _cross(arm: int) -> np.ndarray:
    corner = np.array([(ONE, arm), (arm, arm), (arm, ONE)])
    quarter_turn = np.array([(0, 1), (-1, 0)])
    return np.concatenate([corner @ np.linalg.matrix_power(quarter_turn, turns) for turns in range(4)])


SHAPES = {'disc': ring(ONE, vertices=32), 'triangle': ring(ONE * 5 // 4, vertices=3),
          'star': ring(ONE * 5 // 4, ONE // 2, vertices=10), 'cross': _cross(ONE * 3 // 8),
          'bar': np.array([(2 * ONE, 200), (-2 * ONE, 200), (-2 * ONE, -200), (2 * ONE, -200)]),
          'square': np.array([(800, 800), (-800, 800), (-800, -800), (800, -800)])}


def inside_polygon(x: np.ndarray, y: np.ndarray, *, size: int) -> np.ndarray:
    """Returns the pixels (size, size) bool whose center is in the polygon with corners `x`, `y` (V,), in 1/16 pixel.

    cv2.fillPoly is not used because its pixels differ between OpenCV 4.10 and 4.11.
    """
    next_x, next_y = np.roll(x, -1), np.roll(y, -1)
    center = np.arange(8, size * 16, 16)
    row, edge = ((y <= center[:, None]) != (next_y <= center[:, None])).nonzero()  # edges that cross the row
    crossing = x[edge] + (center[row] - y[edge]) * (next_x - x)[edge] // (next_y - y)[edge]
    first_right = ((crossing + 8) // 16).clip(0, size)
    crossings = np.bincount(row * (size + 1) + first_right, minlength=size * (size + 1)).reshape(size, size + 1)
    return (crossings[:, :size].cumsum(1) & 1).astype(bool)
