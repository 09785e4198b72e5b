"""Base class of models that predict one image, several images, a folder or a video, as objects or as files."""
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import numpy as np
from torch import Tensor

from mae_backbone.data.decode import DEFAULT
from mae_backbone.data.reading import Reading, suffixes_of
from mae_backbone.prediction.base import BasePredictor
from mae_backbone.prediction.inputs import ImageLike, Source, count, is_single, sources
from mae_backbone.prediction.run import write_predictions
from mae_backbone.prediction.typed_results import Result, to_result

Images = ImageLike | Sequence[ImageLike] | Iterable[ImageLike]
ResultT = TypeVar('ResultT', bound=Result)


def batches(images: Images, batch_size: int, progress: bool, reading: Reading = DEFAULT) -> Iterator[list[Source]]:
    """Yields batches of images.

    Args:
        images: as in `PredictsImages.predict`.
        batch_size: number of images in a batch. The last batch may be smaller.
        progress: show a progress bar on stderr.
        reading: decoding of image files. Of a folder, only files that it supports are used.

    Raises:
        ValueError: the batch size is below 1, or an image has an unknown form.
    """
    if batch_size < 1:
        raise ValueError(f'batch_size={batch_size}, expected 1 or more')
    if isinstance(images, (np.ndarray, Tensor)) and images.ndim == 4 and not len(images):
        return
    suffixes = suffixes_of(reading)
    iterator = sources(cast(Any, images), suffixes)
    bar = None
    if progress:
        from tqdm import tqdm
        bar = tqdm(total=count(images, suffixes), unit='image', file=sys.stderr)
    try:
        while batch := list(islice(iterator, batch_size)):
            yield batch
            if bar is not None:
                bar.update(len(batch))
    finally:
        if bar is not None:
            bar.close()


class PredictsImages(Generic[ResultT]):
    """A detector, segmenter or classifier, in PyTorch or exported.

    Attributes:
        task: 'detection', 'segmentation' or 'classification'.
        predictor: the model for single images.
        classes: names of the classes.
        colors: (red, green, blue) of each class.
        class_ids: ids of the classes in the training annotations.
        decoding: settings with which image files are decoded.
    """

    task: str
    predictor: BasePredictor
    classes: tuple[str, ...]
    colors: list[tuple[int, int, int]]
    class_ids: list[int | str]
    decoding: Reading

    def predict(self, images: Images, *, batch_size: int = 1, threshold: float = 0.3, tile: int | None = None,
                overlap: float = 0.2, tta: bool = False, progress: bool = False) -> 'ResultT | list[ResultT]':
        """Predicts one or several images.

        Args:
            images: an image, or several images: a sequence or an iterator of images, an array (B, H, W, 3), a tensor
                (B, 3, H, W), a folder, or a video. An image is a path, an array (H, W, 3) uint8 in RGB order, a PIL
                image, or a tensor (3, H, W) in RGB order, uint8 or float in 0..1.
            batch_size: number of images in a forward pass. Images of different sizes are not padded to a common size,
                so that predictions do not depend on other images.
            threshold: objects with a lower score are removed, in [0, 1].
            tile: height and width in pixels of the tiles of large images; None predicts whole images.
            overlap: overlap between tiles, as a fraction of the tile; choose more than your largest object.
            tta: test-time augmentation: flips, and the scales of the config (`tta.ratios`).
            progress: show a progress bar on stderr.

        Returns:
            A result for one image, else a list of results in the order of the images.

        Raises:
            BadImageError, OSError: an image cannot be read.
            ValueError: an image has an unknown form, or options contradict each other.
        """
        results = self.stream(images, batch_size=batch_size, threshold=threshold, tile=tile, overlap=overlap, tta=tta,
                              progress=progress)
        return next(results) if is_single(images) else list(results)

    def stream(self, images: Images, *, batch_size: int = 1, threshold: float = 0.3, tile: int | None = None,
               overlap: float = 0.2, tta: bool = False, progress: bool = False) -> Iterator[ResultT]:
        """Yields the results of `predict` one by one. Use it for more images than fit into memory."""
        predictor = self.predictor.with_options(threshold=threshold, tile=tile, overlap=overlap, tta=tta)
        for batch in batches(images, batch_size, progress, self.decoding):
            pixels = [source.read(self.decoding) for source in batch]
            for source, image, prediction in zip(batch, pixels, predictor.predict_batch(pixels), strict=True):
                yield cast(ResultT, to_result(prediction, self.task, source, image.shape[:2], self.classes, self.colors,
                                              self.decoding))

    def write_predictions(self, images: str | Path | Sequence[str | Path], out: str | Path, *, batch_size: int = 1,
                          threshold: float = 0.3, tile: int | None = None, overlap: float = 0.2, tta: bool = False,
                          log: Callable[[str], None] = print) -> None:
        """Predicts images or a video, and writes figures and files, as `mae-backbone predict` does.

        Images that cannot be read are skipped. Options as in `predict`.

        Args:
            images: path of an image, a folder or a video, or paths of images.
            out: folder for the results.
            log: receives lines about the progress.

        Raises:
            FileNotFoundError: the path does not exist.
            ValueError: an input would be overwritten, or no image can be read.
        """
        predictor = self.predictor.with_options(threshold=threshold, tile=tile, overlap=overlap, tta=tta)
        write_predictions(predictor, getattr(predictor, 'cfg', None), images, out, batch_size=batch_size, log=log)
