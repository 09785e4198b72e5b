"""From files to predictions, as tools/predict.py does it."""
import json
import weakref
from pathlib import Path

import numpy as np
import pytest
from helpers.prediction_models import DETECTOR
from helpers.small_sets import write_image
from helpers.videos import frames, write
from mmengine.config import Config

from mae_backbone.prediction.results import Results
from mae_backbone.prediction.run import predict_images, predict_video, refuse_overwriting, to_predict
from mae_backbone.prediction.video import BadVideoError, VideoReader

NOTHING_KNOWN = Config(dict(test_dataloader=None))


def run(path: Path, out: Path, *, detector=DETECTOR) -> list[str]:
    said, files = [], to_predict(str(path))
    out.mkdir(exist_ok=True)
    with Results(out, detector, NOTHING_KNOWN) as results:
        if isinstance(files, VideoReader):
            predict_video(files, detector, results, say=said.append)
        else:
            predict_images(files, str(path), detector, results, say=said.append)
    return said


def files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob('*') if path.is_file())


def test_a_folder_keeps_its_layout_and_files_of_one_name_do_not_meet(tmp_path):
    for name in ('a.jpg', 'a.png', 'b/a.png'):
        write_image(tmp_path / 'in' / name)
    (tmp_path / 'in' / 'broken.png').write_bytes(b'no image')
    said = run(tmp_path / 'in', tmp_path / 'out')
    assert files_in(tmp_path / 'out') == ['a.jpg.png', 'a.png.png', 'b/a.png', 'images.json', 'predictions.json']
    assert any('skipped' in line and 'broken.png' in line for line in said)
    assert ' to go' in said[0]
    assert ' to go' not in said[-1]
    assert '1 cell' in said[0]


def test_a_single_image_and_a_folder_without_a_readable_one(tmp_path):
    write_image(tmp_path / 'a.png')
    run(tmp_path / 'a.png', tmp_path / 'out')
    assert files_in(tmp_path / 'out') == ['a.png', 'images.json', 'predictions.json']
    (tmp_path / 'a.png').write_bytes(b'no image')
    with pytest.raises(ValueError, match='none of the 1 images'):
        run(tmp_path / 'a.png', tmp_path / 'out')
    with pytest.raises(FileNotFoundError, match='does not exist'):
        to_predict(str(tmp_path / 'b.png'))


def test_an_image_that_may_not_be_read_is_passed_over(tmp_path):
    write_image(tmp_path / 'in' / 'a.png')
    (tmp_path / 'in' / 'b.png').symlink_to(tmp_path / 'nowhere.png')
    said = run(tmp_path / 'in', tmp_path / 'out')
    assert len([line for line in said if 'skipped' in line and 'nowhere' not in line and 'b.png' in line]) == 1
    assert files_in(tmp_path / 'out') == ['a.png', 'images.json', 'predictions.json']


@pytest.mark.parametrize(('images', 'out', 'file'), [
    ('a.png', '.', 'a.png'),  # the picture would replace the image
    ('b', 'b', 'b/c.jpg'), ('b', 'b/out', 'b/c.jpg'), ('.', 'predictions', 'b/c.jpg'),
    ('labels', '.', 'labels/c.png'),  # of a segmenter the labels would
    ('b', '.', 'b/b/c.png'), ('b', 'linked', 'b/c.jpg'),
    ('v.mp4', '.', 'v.mp4')])
def test_files_that_are_looked_at_are_never_overwritten(tmp_path, monkeypatch, images, out, file):
    monkeypatch.chdir(tmp_path)
    Path(file).parent.mkdir(exist_ok=True, parents=True)
    if out == 'linked':
        Path('linked').symlink_to('b')
    if file == 'b/b/c.png':  # whose own picture is elsewhere
        write_image(Path('b/b/b/c.jpg'))
        images, out = 'b/b', 'b'
    write(Path(file), frames(2)) if file == 'v.mp4' else write_image(Path(file))
    with pytest.raises(ValueError, match='choose a') as refused:
        refuse_overwriting(to_predict(images), images, out)
    assert f'-o {out}' in str(refused.value)


@pytest.mark.parametrize(('images', 'out'), [('b/a.jpg', 'b'), ('b', '.'), ('b/v.avi', 'b'), ('b', 'b2')])
def test_a_folder_for_other_names_is_allowed(tmp_path, monkeypatch, images, out):
    monkeypatch.chdir(tmp_path)
    write_image(Path('b/a.jpg'))
    write(tmp_path / 'v.mp4', frames(2))
    Path('v.mp4').rename('b/v.avi')
    before = {file: Path(file).read_bytes() for file in ('b/a.jpg', 'b/v.avi')}
    refuse_overwriting(to_predict(images), images, out)
    run(Path(images), Path(out))
    assert before == {file: Path(file).read_bytes() for file in before}


def test_a_video_becomes_a_video_and_its_frames_are_counted(tmp_path):
    write(tmp_path / 'a.mp4', frames(height=240, width=320))
    said = run(tmp_path / 'a.mp4', tmp_path / 'out')
    reader = VideoReader(tmp_path / 'out' / 'a.mp4')
    assert (reader.rate, len(list(reader))) == (10, 6)
    images = json.loads((tmp_path / 'out' / 'images.json').read_text())['images']
    assert [image['frame'] for image in images] == list(range(6))
    assert images[3] == dict(id=4, file_name='a.mp4', width=320, height=240, frame=3, seconds=0.3)
    assert len(json.loads((tmp_path / 'out' / 'predictions.json').read_text())) == 6
    assert 'frame 1/6' in said[0]


def test_a_video_that_is_interrupted_leaves_nothing_half_written(tmp_path):
    write(tmp_path / 'a.mp4', frames())
    seen = []

    class Interrupted(type(DETECTOR)):
        def __call__(self, image: np.ndarray):
            seen.append(image)
            if len(seen) == 3:
                raise KeyboardInterrupt
            return super().__call__(image)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / 'a.mp4', tmp_path / 'out',
            detector=Interrupted('detection', DETECTOR.classes, DETECTOR.predict))
    assert files_in(tmp_path / 'out') == ['images.json', 'predictions.json']
    assert len(json.loads((tmp_path / 'out' / 'predictions.json').read_text())) == 2


def test_frames_are_not_kept(tmp_path):
    """Of a video only the present frame is in memory."""
    write(tmp_path / 'a.mp4', frames(30))
    alive: list[weakref.ref] = []

    def predict(image: np.ndarray):
        alive.append(weakref.ref(image))
        assert sum(one() is not None for one in alive) <= 2
        return DETECTOR.predict(image)
    run(tmp_path / 'a.mp4', tmp_path / 'out', detector=type(DETECTOR)('detection', DETECTOR.classes, predict))
    assert len(alive) == 30


def test_a_file_that_is_no_video_is_refused_before_anything_is_written(tmp_path):
    (tmp_path / 'a.mp4').write_bytes(b'no video')
    with pytest.raises(BadVideoError):
        run(tmp_path / 'a.mp4', tmp_path / 'out')
    assert not (tmp_path / 'out').exists()
