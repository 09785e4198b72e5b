"""Event handlers of the page, as functions of arrays. They need no Gradio."""
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from mae_backbone.data.decode import BadImageError
from mae_backbone.data.reading import is_color, shown, suffixes_of
from mae_backbone.demo import html
from mae_backbone.demo.answers import Answer, answer
from mae_backbone.demo.feature_bank import FeatureBank
from mae_backbone.demo.uploads import read_upload
from mae_backbone.hooks.reconstruction import reconstruction_titles
from mae_backbone.prediction.attention import attention_blocks
from mae_backbone.prediction.model import MaskedAutoencoder, Model
from mae_backbone.prediction.onnx.model import OnnxEncoder, OnnxModel
from mae_backbone.prediction.predicting import PredictsImages

MAX_FIGURE = 1600  # pixels of the longer side of a figure on the page
EMPTY = 'Upload an image, paste one, or take one with the camera.'


@dataclass
class Visit:
    """State of an image in memory while its tab is open.

    Attributes:
        pixels: as the model takes them, (H, W, 3) uint8 RGB or (H, W, channels) of a reader of bands.
        picture: (H, W, 3) uint8 RGB, as they are shown.
        name: of the file.
        answer: prediction of a detector, segmenter or classifier.
        shown: (H', W') of the figure whose points are clicked.
        point: (x, y) in pixels of the image, that attention is shown from.
    """

    pixels: np.ndarray
    picture: np.ndarray
    name: str
    answer: Answer | None = None
    shown: tuple[int, int] = (1, 1)
    point: tuple[float, float] | None = None


class View(NamedTuple):
    """Content of a part of the page; empty without an image.

    Attributes:
        figure: (H', W', 3) uint8 RGB.
        text: HTML.
        files: to download.
    """

    figure: np.ndarray | None = None
    text: str = ''
    files: Sequence[Path] = ()


class Page:
    """The page of a model.

    Args:
        model: from `mae_backbone.load`.
        folder: private folder for the files to download.
        bank: images to search for neighbors; None for no search.
        max_bytes: maximum size of an upload.
    """

    def __init__(self, model: Model | OnnxModel | OnnxEncoder, folder: Path, *, bank: FeatureBank | None,
                 max_bytes: int) -> None:
        self.model, self.folder, self.bank, self.max_bytes = model, folder, bank, max_bytes
        encoder = getattr(model, 'encoder', None)  # an exported file has none that attention can be read from
        self.blocks = attention_blocks(encoder) if encoder is not None else []

    @property
    def empty(self) -> str:
        """Instructions if there is no image."""
        reading = self.model.decoding
        return EMPTY if is_color(reading) else f'Upload a file ({", ".join(suffixes_of(reading))}).'

    def take(self, path: str | None) -> tuple[Visit | None, str, np.ndarray | None]:
        """Reads an upload: (visit, message, preview)."""
        if path is None:
            return None, html.message(self.empty), None
        try:
            pixels = read_upload(path, max_bytes=self.max_bytes, reading=self.model.decoding)
        except (BadImageError, OSError) as error:
            return None, html.message(str(error), error=True), None
        height, width = pixels.shape[:2]
        text = f'{Path(path).name}: {width:,} x {height:,} pixels'
        picture = shown(pixels, self.model.decoding)
        return Visit(pixels, picture, Path(path).name), html.message(text), fit(picture)

    def predict(self, visit: Visit | None, threshold: float) -> View:
        """Predicts the image of a visit, and keeps the prediction there."""
        if visit is None:
            return View()
        assert isinstance(self.model, PredictsImages)
        visit.answer = answer(self.model, visit.pixels, visit.picture, visit.name)
        return self.show(visit, threshold)

    def show(self, visit: Visit | None, threshold: float) -> View:
        """Shows the prediction for a threshold."""
        if visit is None or visit.answer is None:
            return View()
        view = visit.answer.show(threshold)
        return View(fit(view.figure), html.legend(view.summary, view.rows),
                    visit.answer.write(self._new_folder(), threshold))

    def reconstruct(self, visit: Visit | None, ratio: float, seed: float) -> View:
        """Hides patches and reconstructs them; text is HTML with the three pictures."""
        if visit is None:
            return View()
        assert isinstance(self.model, MaskedAutoencoder)
        result: Any = self.model.reconstruct(visit.pixels, mask_ratio=ratio, seed=int(seed))
        titles = reconstruction_titles(result.hidden)
        pictures = zip(titles, [result.original, result.masked, result.reconstruction], strict=True)
        file = self._new_folder() / 'reconstruction.png'
        result.save(file)
        return View(None, html.pictures(list(pictures), result.describe()), [file])

    def attend(self, visit: Visit | None, block: int) -> View:
        """Draws attention from the point of the visit, at first the center."""
        if visit is None:
            return View()
        height, width = visit.pixels.shape[:2]
        visit.point = visit.point or (width / 2, height / 2)
        assert isinstance(self.model, Model)
        result = self.model.attention(visit.pixels, visit.point, block=int(block))
        figure = fit(result.draw())
        visit.shown = figure.shape[0], figure.shape[1]
        text = f'{result.describe()}. Mean over {len(result.weights)} heads; bright is much, dark is little.'
        return View(figure, html.legend(text, []))

    def click(self, visit: Visit | None, block: int, at: tuple[float, float]) -> View:
        """Draws attention from the point `at` (x, y) of the figure that is shown."""
        if visit is not None:
            (x, y), (height, width), (H, W) = at, visit.shown, visit.pixels.shape[:2]
            visit.point = min(max(x / width, 0.0), 1.0) * W, min(max(y / height, 0.0), 1.0) * H
        return self.attend(visit, block)

    def find(self, visit: Visit | None) -> str:
        """HTML with the neighbors in the feature bank."""
        if visit is None or self.bank is None:
            return ''
        assert isinstance(self.model, (Model, OnnxEncoder))
        feature = np.asarray(self.model.features(visit.pixels, pool='mean'))[0]
        return html.neighbors(self.bank.nearest(feature))

    def _new_folder(self) -> Path:
        folder = self.folder / secrets.token_hex(8)
        folder.mkdir()
        return folder


def fit(picture: np.ndarray) -> np.ndarray:
    """picture (H, W, 3) -> the same with at most MAX_FIGURE pixels on its longer side."""
    scale = MAX_FIGURE / max(picture.shape[:2])
    if scale >= 1:
        return picture
    size = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
