"""From files to predictions: images one after another, or the frames of a video."""
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

from mae_backbone.data.decode import BadImageError, read_image
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


def refuse_overwriting(files: Sequence[Path] | VideoReader, path: str, out: str) -> None:
    """Before anything is written to the folder `out`: none of the files that `to_predict(path)` gave may be replaced.

    Raises:
        ValueError: `out` lies in the folder of the images, where the next run would take the pictures for such, or a
            picture or a video would get the name of a file that is looked at.
    """
    root, folder = Path(path), Path(out).resolve()
    if root.is_dir() and folder.is_relative_to(root.resolve()):
        raise ValueError(f'-o {out} lies in {path}, all of which is looked at: choose a folder outside of it')
    if isinstance(files, VideoReader):
        files, targets = [root], [Path(f'{root.stem}.mp4')]
    else:
        targets = [name.with_name(f'{name.name}.png') for name in _picture_names(files, _root_of(root))]
    targets += [Path('labels', target) for target in targets]  # of a segmenter
    lost = {file.resolve() for file in files} & {(folder / target).resolve() for target in targets}
    if lost:
        raise ValueError(f'-o {out}: {len(lost)} of the files that are looked at would be overwritten, such as '
                         f'{min(lost)}: choose another folder')


def _root_of(path: Path) -> Path:
    """The folder by which the images of a path are named."""
    return path if path.is_dir() else path.parent


def _picture_names(files: Sequence[Path], root: Path) -> list[Path]:
    """Where the picture of each file is written, without its suffix: a.jpg and a.png become a.jpg.png and a.png.png."""
    same = Counter(file.with_suffix('') for file in files)
    names = [file.relative_to(root) for file in files]
    return [name if same[file.with_suffix('')] > 1 else name.with_suffix('')
            for file, name in zip(files, names, strict=True)]


def predict_images(files: Sequence[Path], path: str, predictor: Predictor, results: Results, *,
                   say: Callable[[str], None]) -> None:
    """Predicts for each image that `to_predict(path)` gave; those that cannot be read are passed over with a line.

    Raises:
        ValueError: none could be read.
    """
    root, bad, start = _root_of(Path(path)), 0, time.monotonic()
    for number, (file, picture) in enumerate(zip(files, _picture_names(files, root), strict=True), 1):
        name = file.relative_to(root)
        try:
            image = read_image(file)
        except (BadImageError, OSError) as error:
            bad += 1
            say(f'[{number}/{len(files)}] skipped: {error}')
            continue
        result = predictor(image)
        results.add(result, name.as_posix(), image.shape[:2])
        results.add_picture(image, result, picture)
        say(f'[{number}/{len(files)}] {name}: {predictor.describe(result)}{to_go(start, number, len(files))}')
    if bad == len(files):
        raise ValueError(f'none of the {bad} images could be read: see the lines above')


def predict_video(reader: VideoReader, predictor: Predictor, results: Results, *, say: Callable[[str], None]) -> None:
    """Predicts for each frame, and writes a video of the same name with the predictions drawn (MPEG-4, no sound).

    Raises:
        BadVideoError: it cannot be written.
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
