"""From files to predictions: images one after another, or the frames of a video."""
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

from mae_backbone.data.decode import BadImage, read_image
from mae_backbone.data.files import list_images
from mae_backbone.prediction.predictor import Predictor
from mae_backbone.prediction.results import Results, written_whole
from mae_backbone.prediction.video import VIDEO_SUFFIXES, VideoReader, VideoWriter

_PAUSE = 5.0  # seconds between the lines of a video


def to_predict(path: str) -> list[Path] | VideoReader:
    """The images that a path stands for, sorted, or the video.

    Raises:
        FileNotFoundError: there is nothing.
        ValueError: a folder without images, or a video that cannot be read.
    """
    root = Path(path)
    if not root.exists():
        raise FileNotFoundError(f'{path} does not exist: pass an image, a folder of images, or a video')
    if root.is_dir():
        return list_images(root)
    return VideoReader(root) if root.suffix.lower() in VIDEO_SUFFIXES else [root]


def predict_images(files: Sequence[Path], root: Path, predictor: Predictor, results: Results, *,
                   say: Callable[[str], None]) -> None:
    """Predicts for each image under `root`; those that cannot be read are passed over with a line.

    Raises:
        ValueError: none could be read.
    """
    same, bad, start = Counter(file.with_suffix('') for file in files), 0, time.monotonic()
    for number, file in enumerate(files, 1):
        name = file.relative_to(root)
        try:
            image = read_image(file)
        except BadImage as error:
            bad += 1
            say(f'[{number}/{len(files)}] skipped: {error}')
            continue
        result = predictor(image)
        results.add(result, name.as_posix(), image.shape[:2])
        # a.jpg and a.png become a.jpg.png and a.png.png
        results.add_picture(image, result, name if same[file.with_suffix('')] > 1 else name.with_suffix(''))
        say(f'[{number}/{len(files)}] {name}: {predictor.describe(result)}{to_go(start, number, len(files))}')
    if bad == len(files):
        raise ValueError(f'none of the {bad} images could be read: see the lines above')


def predict_video(reader: VideoReader, predictor: Predictor, results: Results, *, say: Callable[[str], None]) -> None:
    """Predicts for each frame, and writes a video of the same name with the predictions drawn (MPEG-4, no sound).

    Raises:
        BadVideo: it cannot be written.
    """
    name, number = Path(reader.path), 0
    target = results.folder / f'{name.stem}.mp4'
    with written_whole(target) as part:
        writer, start = VideoWriter(part, reader.rate), time.monotonic()
        said = start
        try:
            for number, frame in enumerate(reader, 1):
                result = predictor(frame)
                results.add(result, name.name, frame.shape[:2], frame=number - 1,
                            seconds=round((number - 1) / reader.rate, 3))
                writer.add(predictor.draw(frame, result))
                if time.monotonic() - said > _PAUSE or number == 1:
                    said = time.monotonic()
                    say(f'frame {number}{f"/{reader.count}" * bool(reader.count)}: {predictor.describe(result)}, '
                        f'{number / (said - start):.2f} frames/s{to_go(start, number, reader.count)}')
        finally:
            writer.close()
    if number < reader.count:
        say(f'{name} ends after {number} of the {reader.count} frames that it announces')
    say(f'{number} frames: {target}')


def to_go(start: float, done: int, total: int) -> str:
    """When the rest will be done at the pace since `start`, a time of time.monotonic, for the end of a line."""
    if done >= total:
        return ''
    return f', {timedelta(seconds=round((time.monotonic() - start) / done * (total - done)))} to go'
