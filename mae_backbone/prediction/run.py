"""Predicts files: images one by one, or the frames of a video, and writes the results."""
import hashlib
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from mmengine.config import Config

from mae_backbone.data.bit_depth import NUM_SAMPLED, bit_depth_warning
from mae_backbone.data.decode import DEFAULT, BadImageError, Decoding
from mae_backbone.data.files import IMAGE_SUFFIXES, VIDEO_SUFFIXES, list_images
from mae_backbone.data.frames import num_frames
from mae_backbone.data.reading import Reading, read_pixels, suffixes_of
from mae_backbone.formats.files import evenly_spaced
from mae_backbone.prediction.base import BasePredictor, Prediction, SmallImageError
from mae_backbone.prediction.results import RESULT_FILES, Results
from mae_backbone.prediction.video import VideoReader, VideoWriter
from mae_backbone.utils.atomic_write import atomic_path, partial_files
from mae_backbone.utils.printable import printable

_LOG_EVERY = 5.0   # seconds between two progress lines of a video
_NAME_BYTES = 255  # length in bytes of the longest file name that most file systems allow
_LISTED = 20       # number of skipped images that are listed at the end
_SMALL = 64        # our choice: an error of the model is due to the size of an image if its short side is below


class Inputs(NamedTuple):
    """Images or a video to predict.

    Attributes:
        files: paths of the images, or the video.
        root: folder to which the names in the results are relative.
        is_folder: True if all images of `root` are predicted.
    """

    files: list[Path] | VideoReader
    root: Path
    is_folder: bool = False


def find_inputs(images: str | Path | Sequence[str | Path], suffixes: Sequence[str] = IMAGE_SUFFIXES) -> Inputs:
    """Returns an image, the sorted images (files that end in `suffixes`) of a folder, a video, or several images.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError: the folder has no images, a path is a device or pipe, a video cannot be read, or a folder or a video
            is one of several paths.
    """
    if not isinstance(images, (str, Path)):
        if len(images) > 1:
            return _several([Path(image) for image in images])
        (images,) = images
    root = _existing(Path(images))
    if root.is_dir():
        return Inputs(list_images(root, suffixes), root, is_folder=True)
    return Inputs(VideoReader(root) if root.suffix.lower() in VIDEO_SUFFIXES else [root], root.parent)


def _several(paths: list[Path]) -> Inputs:
    """Returns several images. Their names in the results are relative to the folder that they have in common."""
    for path in paths:
        if _existing(path).is_dir() or path.suffix.lower() in VIDEO_SUFFIXES:
            raise ValueError(f'{path} is a {"folder" if path.is_dir() else "video"} among {len(paths)} inputs: pass '
                             'images only, or this input in a separate command')
    files = list({path.resolve(): Path(os.path.abspath(path)) for path in paths}.values())
    return Inputs(files, Path(os.path.commonpath([file.parent for file in files])))


def _existing(path: Path) -> Path:
    """Returns a path, and checks that it is a file or a folder."""
    if not path.exists():
        raise FileNotFoundError(f'{path} does not exist: pass an image, a folder of images, or a video')
    if not path.is_dir() and not path.is_file():  # reading a pipe would block
        raise ValueError(f'{path} is neither a file nor a folder: pass an image, a folder of images, or a video')
    return path


def check_output(inputs: Inputs, out: str | Path, *, task: str | None = None) -> None:
    """Checks that writing to the folder `out` overwrites neither input files nor files of other programs.

    Args:
        inputs: result of `find_inputs`.
        out: output folder.
        task: task of the model; None if it is not known yet. Only segmenters write label maps.

    Raises:
        ValueError: `out` is inside the folder of images, where the next run would read the figures as images; a
            file would get the name of an input file, or of a file that no earlier prediction wrote; or a label map
            would get the name of a figure.
    """
    files, root, is_folder = inputs
    folder = Path(out).resolve()
    if is_folder and folder.is_relative_to(root.resolve()):
        raise ValueError(f'-o {out} is inside {root}, whose images are predicted: choose a folder outside of it')
    if isinstance(files, VideoReader):
        files = [Path(files.path)]
        figures = [Path(f'{files[0].stem}.mp4')]
    else:
        figures = [name.with_name(f'{name.name}.png') for name in _figure_names(files, root)]
    maps = [Path('labels', figure) for figure in figures]
    overwritten = {file.resolve() for file in files} & {(folder / target).resolve() for target in (*figures, *maps)}
    if overwritten:
        raise ValueError(f'-o {out}: {len(overwritten)} of the input files would be overwritten, such as '
                         f'{min(overwritten)}: choose another folder')
    both = set(figures) & set(maps) if task == 'segmentation' else None
    if both:
        raise ValueError(f'{root} has a folder labels, where {len(both)} figures would get the names of label maps, '
                         f'such as {min(both)}: rename the folder, or predict its images with another -o')
    targets = [*figures, *(maps if task == 'segmentation' else ()), Path('images.json')]
    # A prediction that was killed leaves its results incomplete, and may be repeated.
    is_repeated = any((folder / name).exists() or partial_files(folder, name) for name in RESULT_FILES.values())
    existing = [] if is_repeated else [target for target in targets if (folder / target).exists()]
    if existing:
        raise ValueError(f'-o {out}: {len(existing)} files in this folder would be overwritten, such as '
                         f'{printable(str(min(existing)))}, and no earlier prediction wrote there (it has no '
                         f'{", ".join(RESULT_FILES.values())}): choose another folder, or remove the files')


def _figure_names(files: Sequence[Path], root: Path) -> list[Path]:
    """Returns the names of the figures without the suffix .png.

    It is the name of the image without its suffix, such as 'a' for a.jpg. If there are both a.jpg and a.png, the suffix
    is kept: the figures are a.jpg.png and a.png.png.
    """
    names = [file.relative_to(root) for file in files]
    short = [name.with_suffix('') for name in names]
    while len(set(short)) < len(short):  # again, because a.jpg with its suffix has the name of a.jpg.png without it
        counts = Counter(short)
        short = [name if counts[chosen] > 1 else chosen for name, chosen in zip(names, short, strict=True)]
    return [_shorten(name) for name in short]


def _shorten(name: Path) -> Path:
    """Shortens a name that would be too long for a file name with `.png`. A hash makes the short name unique."""
    if len(os.fsencode(name.name)) + len('.png') <= _NAME_BYTES:
        return name
    digest, text = hashlib.sha256(os.fsencode(name.name)).hexdigest()[:16], name.name
    while len(os.fsencode(text)) + len(digest) + len('-.png') > _NAME_BYTES:
        text = text[:-1]
    return name.with_name(f'{text}-{digest}')


def write_predictions(predictor: BasePredictor, cfg: Config | None, images: str | Path | Sequence[str | Path],
                      out: str | Path, *, batch_size: int = 1, log: Callable[[str], None]) -> None:
    """Predicts images or a video, and writes figures and files (`Results`) to the folder `out`.

    Args:
        predictor: predictor that computes the predictions.
        cfg: config of the predictor; None if it has none. Ids of images and classes are read from its annotation file,
            if the file exists.
        images: path of an image, a folder or a video, or paths of images.
        out: output folder. It is created if it does not exist.
        batch_size: images in a forward pass.
        log: receives lines about the progress.

    Raises:
        FileNotFoundError: the path does not exist.
        OSError: the folder cannot be written to.
        ValueError: an input would be overwritten, or no image can be read.
    """
    inputs = find_inputs(images, suffixes_of(predictor.decoding))
    check_output(inputs, out, task=predictor.task)
    Path(out).mkdir(parents=True, exist_ok=True)
    with Results(out, predictor, cfg) as results:
        log(f'{predictor.task}: results go to {out}; {results.summary()}')
        if isinstance(inputs.files, VideoReader):
            if not isinstance(predictor.decoding, Decoding) and not predictor.decoding.is_color:
                raise ValueError(f'{inputs.files.path}: a video has three channels with 8 bits, the model reads '
                                 f'{predictor.decoding.channels} with {8 * predictor.decoding.dtype.itemsize} bits: '
                                 'pass images')
            predict_video(inputs.files, predictor, results, log=log)
        else:
            predict_images(inputs.files, inputs.root, predictor, results, log=log, decoding=predictor.decoding,
                           batch_size=batch_size)


def predict_images(files: Sequence[Path], root: Path, predictor: BasePredictor, results: Results, *,
                   log: Callable[[str], None], decoding: Reading = DEFAULT, batch_size: int = 1) -> None:
    """Predicts each image. Names in the results are relative to the folder `root`.

    Images that cannot be read, or are too small for the model, are skipped and listed.

    Raises:
        ValueError: no image could be predicted.
    """
    start = time.monotonic()
    skipped: list[Path] = []
    small: list[Path] = []
    if decoding == DEFAULT and (warning := bit_depth_warning(evenly_spaced(files, NUM_SAMPLED))):
        log(f'warning: {warning}. The images of the training were read without scaling: if they have 8 bits, convert '
            'these in the same way')
    numbered = iter(enumerate(zip(files, _figure_names(files, root), strict=True), 1))
    while batch := list(islice(numbered, batch_size)):
        images = []
        for number, (file, figure) in batch:
            try:
                images.append((number, file.relative_to(root), figure, read_pixels(file, decoding)))
            except (BadImageError, OSError) as error:
                skipped.append(file.relative_to(root))
                log(f'[{number}/{len(files)}] skipped: {printable(str(error))}')
                continue
            # A reader of bands takes the pages of a TIFF as channels.
            if isinstance(decoding, Decoding) and (frames := num_frames(file)) > 1:
                log(f'[{number}/{len(files)}] {printable(str(file))} has {frames} frames or pages, and only the first '
                    'one is predicted: save each as an image, or an animation as a video')
        predictions = _predict_batch(predictor, [image for *_, image in images])
        for (number, name, figure, image), prediction in zip(images, predictions, strict=True):
            if isinstance(prediction, Exception):
                small.append(name)
                reason = printable((str(prediction).strip() or type(prediction).__name__).splitlines()[0])
                log(f'[{number}/{len(files)}] skipped: {printable(str(name))} has {image.shape[0]}x{image.shape[1]} '
                    f'pixels (height x width), too few for the model ({reason})')
                continue
            results.add(prediction, name.as_posix(), image.shape[:2])
            results.add_figure(image, prediction, figure)
            log(f'[{number}/{len(files)}] {printable(str(name))}: {predictor.describe(prediction)}'
                f'{eta(start, number, len(files))}')
    if len(skipped) + len(small) == len(files):
        raise ValueError(f'none of the {len(files)} images could be {"predicted" if small else "read"}: see the lines '
                         'above')
    for fault, left_out in (('could not be read', skipped), ('are too small', small)):
        if left_out:
            names = ', '.join(printable(str(name)) for name in left_out[:_LISTED])
            log(f'{len(left_out)} of {len(files)} images {fault} and were skipped: {names}'
                + ', ...' * (len(left_out) > _LISTED))
    if new_ids := results.new_ids():
        log(new_ids)


def _predict_batch(predictor: BasePredictor, images: Sequence[np.ndarray]) -> list[Prediction | Exception]:
    """Predicts images. The result of an image that is too small for the model is the error that it causes."""
    try:
        return [*predictor.predict_batch(images)]
    except (RuntimeError, ValueError, ArithmeticError, cv2.error) as error:
        if not isinstance(error, SmallImageError) and all(min(image.shape[:2]) >= _SMALL for image in images):
            raise
        return [error] if len(images) == 1 else [result for image in images
                                                 for result in _predict_batch(predictor, [image])]


def predict_video(reader: VideoReader, predictor: BasePredictor, results: Results, *,
                  log: Callable[[str], None]) -> None:
    """Predicts each frame, and writes the frames with drawn predictions to NAME.mp4 (MPEG-4, without sound).

    Raises:
        BadVideoError: the video cannot be written.
    """
    name, number = Path(reader.path), 0
    target = results.folder / f'{name.stem}.mp4'
    with atomic_path(target, keep_suffix=True) as temporary:
        writer, start = VideoWriter(temporary, reader.rate), time.monotonic()
        logged = start
        try:
            for number, frame in enumerate(reader, 1):
                prediction = predictor(frame)
                results.add(prediction, name.name, frame.shape[:2], frame=number - 1,
                            seconds=round((number - 1) / reader.rate, 3))
                writer.add(predictor.draw(frame, prediction, legend='fixed'))
                if time.monotonic() - logged > _LOG_EVERY or number == 1:
                    logged = time.monotonic()
                    log(f'frame {number}{f"/{reader.count}" * bool(reader.count)}: {predictor.describe(prediction)}, '
                        f'{number / (logged - start):.2f} frames/s{eta(start, number, reader.count)}')
        finally:
            writer.close()
    if number < reader.count:
        log(f'{name} ends after {number} of the {reader.count} frames that its header states')
    log(f'{number} frames: {target}')


def eta(start: float, done: int, total: int) -> str:
    """Formats the expected remaining time.

    Args:
        start: start of the work, a result of `time.monotonic`.
        done: number of items that are done.
        total: number of all items.
    """
    if done >= total:
        return ''
    return f', {timedelta(seconds=round((time.monotonic() - start) / done * (total - done)))} left'
