"""Prediction of files, as `mae-backbone predict` does it."""
import json
import os
import weakref
from pathlib import Path

import numpy as np
import pytest
from helpers.prediction_models import DETECTOR
from helpers.small_sets import write_image
from helpers.videos import frames, write
from mmengine.config import Config
from PIL import Image

from mae_backbone.data.readers import TiffReader
from mae_backbone.prediction.results import Results
from mae_backbone.prediction.run import check_output, find_inputs, predict_images, predict_video
from mae_backbone.prediction.video import BadVideoError, VideoReader

NO_DATA = Config(dict(test_dataloader=None))


def run(path: Path, out: Path, *, detector=DETECTOR) -> list[str]:
    lines, inputs = [], find_inputs(path)
    out.mkdir(exist_ok=True)
    with Results(out, detector, NO_DATA) as results:
        if isinstance(inputs.files, VideoReader):
            predict_video(inputs.files, detector, results, log=lines.append)
        else:
            predict_images(inputs.files, inputs.root, detector, results, log=lines.append)
    return lines


def files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob('*') if path.is_file())


def test_output_keeps_layout_and_separates_files_of_one_stem(tmp_path):
    for name in ('a.jpg', 'a.png', 'b/a.png'):
        write_image(tmp_path / 'in' / name)
    (tmp_path / 'in' / 'broken.png').write_bytes(b'no image')
    lines = run(tmp_path / 'in', tmp_path / 'out')
    assert files_in(tmp_path / 'out') == ['a.jpg.png', 'a.png.png', 'b/a.png', 'images.json', 'predictions.json']
    assert any('skipped' in line and 'broken.png' in line for line in lines)
    assert ' left' in lines[0]
    assert ' left' not in lines[-1]
    assert '1 cell' in lines[0]


def test_single_image_and_no_readable_image(tmp_path):
    write_image(tmp_path / 'a.png')
    run(tmp_path / 'a.png', tmp_path / 'out')
    assert files_in(tmp_path / 'out') == ['a.png', 'images.json', 'predictions.json']
    (tmp_path / 'a.png').write_bytes(b'no image')
    with pytest.raises(ValueError, match='none of the 1 images'):
        run(tmp_path / 'a.png', tmp_path / 'out')
    with pytest.raises(FileNotFoundError, match='does not exist'):
        find_inputs(str(tmp_path / 'b.png'))


def test_several_images_are_named_relative_to_their_common_folder(tmp_path, monkeypatch):
    for name in ('a.jpg', 'b/a.jpg', 'c.jpg'):
        write_image(tmp_path / 'in' / name)
    (tmp_path / 'in' / 'film.mp4').write_bytes(b'frames')
    monkeypatch.chdir(tmp_path / 'in' / 'b')
    files, root, is_folder = find_inputs(['../a.jpg', 'a.jpg', tmp_path / 'in' / 'a.jpg'])  # one of them twice
    assert [file.relative_to(root).as_posix() for file in files] == ['a.jpg', 'b/a.jpg']
    assert not is_folder
    assert find_inputs(['a.jpg']) == find_inputs('a.jpg')
    for other, says in (('.', 'is a folder among 2 inputs'), ('../film.mp4', 'is a video'), ('d', 'does not exist')):
        with pytest.raises((ValueError, FileNotFoundError), match=says):
            find_inputs(['a.jpg', other])


def test_broken_link_is_skipped(tmp_path):
    write_image(tmp_path / 'in' / 'a.png')
    (tmp_path / 'in' / 'b.png').symlink_to(tmp_path / 'nowhere.png')
    lines = run(tmp_path / 'in', tmp_path / 'out')
    assert len([line for line in lines if '] skipped: ' in line and 'nowhere' not in line and 'b.png' in line]) == 1
    assert lines[-1] == '1 of 2 images could not be read and were skipped: b.png'
    assert files_in(tmp_path / 'out') == ['a.png', 'images.json', 'predictions.json']


@pytest.mark.parametrize('suffix', ['.png', '.tif'])
def test_names_of_255_bytes_are_written(tmp_path, suffix):
    long = 'ä' * 125 + 'x'
    for name in (f'{long}{suffix}', f'{long}.jpg', f'{long[:-1]}y{suffix}'):
        assert len(name.encode()) == 255
        write_image(tmp_path / 'in' / name)
    run(tmp_path / 'in', tmp_path / 'out')
    written = [name for name in files_in(tmp_path / 'out') if name.endswith('.png')]
    assert len(written) == 3
    assert max(len(name.encode()) for name in written) <= 255
    images = json.loads((tmp_path / 'out' / 'images.json').read_text())['images']
    assert {image['file_name'] for image in images} == {path.name for path in (tmp_path / 'in').iterdir()}


def test_every_image_has_its_own_figure(tmp_path):
    names = ('a.jpg', 'a.png', 'a.jpg.jpg', 'a.jpg.jpg.png', 'b.png', 'b.png.png')
    for name in names:
        write_image(tmp_path / 'in' / name)
    run(tmp_path / 'in', tmp_path / 'out')
    assert len([name for name in files_in(tmp_path / 'out') if name.endswith('.png')]) == len(names)


@pytest.mark.parametrize('image', ['labels/a.png', 'labels/a.jpg'])
def test_figures_of_a_folder_labels_do_not_replace_label_maps(tmp_path, image):
    for name in ('a.jpg', image):
        write_image(tmp_path / 'in' / name)
    for task in ('detection', 'classification'):  # they write no label maps
        check_output(find_inputs(tmp_path / 'in'), tmp_path / 'out', task=task)
    with pytest.raises(ValueError, match=r'in has a folder labels, where 1 figures .* such as labels/a.png: rename'):
        check_output(find_inputs(tmp_path / 'in'), tmp_path / 'out', task='segmentation')


@pytest.mark.parametrize(('task', 'file'), [
    ('segmentation', 'labels/a.png'),  # the ground truth of data/images
    ('detection', 'a.png'), ('detection', 'images.json'), (None, 'a.png')])
def test_files_that_no_prediction_wrote_are_not_overwritten(tmp_path, task, file):
    write_image(tmp_path / 'data' / 'images' / 'a.jpg')
    (tmp_path / 'data' / file).parent.mkdir(exist_ok=True)
    (tmp_path / 'data' / file).write_bytes(b'precious')
    source, out = str(tmp_path / 'data' / 'images'), str(tmp_path / 'data')
    with pytest.raises(ValueError, match=rf'1 files in this folder would be overwritten, such as {file}, .*choose'):
        check_output(find_inputs(source), out, task=task)
    (tmp_path / 'data' / 'areas.json').write_text('[]')  # an earlier prediction, which may be repeated
    check_output(find_inputs(source), out, task=task)


def test_prediction_that_was_killed_may_be_repeated(tmp_path):
    write_image(tmp_path / 'in' / 'a.jpg')
    write_image(tmp_path / 'out' / 'a.png')
    (tmp_path / 'out' / '.predictions.json.243e9954.part').write_text('[')
    check_output(find_inputs(tmp_path / 'in'), tmp_path / 'out', task='detection')


def test_labels_in_the_output_folder_of_a_detector_are_left_alone(tmp_path):
    write_image(tmp_path / 'data' / 'images' / 'a.jpg')
    write_image(tmp_path / 'data' / 'labels' / 'a.png')
    for task in (None, 'detection'):
        check_output(find_inputs(tmp_path / 'data' / 'images'), tmp_path / 'data', task=task)


def test_further_frames_of_an_image_file_are_mentioned(tmp_path):
    images = [Image.new('RGB', (20, 10), color) for color in ('red', 'green', 'blue')]
    (tmp_path / 'in').mkdir()
    for name in ('a.webp', 'b.tif', 'c.png'):
        images[0].save(tmp_path / 'in' / name, save_all=True, append_images=images[1:])
    write_image(tmp_path / 'in' / 'd.jpg')
    lines = [line for line in run(tmp_path / 'in', tmp_path / 'out') if 'only the first one is predicted' in line]
    assert [name for name in ('a.webp', 'b.tif', 'c.png', 'd.jpg') if any(name in line for line in lines)] == [
        'a.webp', 'b.tif', 'c.png']
    assert all('3 frames' in line for line in lines)
    images[0].save(tmp_path / 'e.gif', save_all=True, append_images=images[1:])
    assert 'e.gif has 3 frames' in run(tmp_path / 'e.gif', tmp_path / 'out')[0]


def test_pages_that_are_read_as_channels_are_not_mentioned(tmp_path):
    pages = [Image.new('L', (20, 10), value) for value in (10, 20, 30)]
    pages[0].save(tmp_path / 'a.tif', save_all=True, append_images=pages[1:])
    lines: list[str] = []
    (tmp_path / 'out').mkdir()
    with Results(tmp_path / 'out', DETECTOR, NO_DATA) as results:
        predict_images([tmp_path / 'a.tif'], tmp_path, DETECTOR, results, log=lines.append,
                       decoding=TiffReader(3, dtype='uint8'))
    assert not [line for line in lines if 'pages' in line or 'skipped' in line]


def test_images_that_are_too_small_for_the_model_are_skipped(tmp_path):
    for name, size in (('a', (40, 30)), ('b', (1, 400)), ('c', (2, 2)), ('d', (80, 90))):
        write_image(tmp_path / 'in' / f'{name}.png', size)

    def predict(image: np.ndarray):
        if min(image.shape[:2]) < 8:
            raise RuntimeError('Output size is too small\nmore')
        return DETECTOR.predict(image)
    detector = type(DETECTOR)('detection', DETECTOR.classes, predict)
    lines = run(tmp_path / 'in', tmp_path / 'out', detector=detector)
    assert 'b.png has 400x1 pixels (height x width), too few for the model (Output size is too small)' in lines[1]
    assert lines[-1] == '2 of 4 images are too small and were skipped: b.png, c.png'
    assert [image['file_name'] for image in json.loads((tmp_path / 'out' / 'images.json').read_text())['images']] == [
        'a.png', 'd.png']
    with pytest.raises(ValueError, match='none of the 1 images could be predicted'):
        run(tmp_path / 'in' / 'b.png', tmp_path / 'out', detector=detector)

    def broken(image: np.ndarray):
        raise RuntimeError('out of memory')
    with pytest.raises(RuntimeError, match='out of memory'):  # not due to the size
        run(tmp_path / 'in' / 'd.png', tmp_path / 'out', detector=type(DETECTOR)('detection', ('a', 'b'), broken))


def test_images_of_12_bits_are_reported_as_nearly_black(tmp_path):
    (tmp_path / 'in').mkdir()
    Image.fromarray(np.full((8, 8), 4000, np.uint16)).save(tmp_path / 'in' / 'a.png')
    lines = run(tmp_path / 'in', tmp_path / 'out')
    assert 'largest value is 4,000 (12 bits)' in lines[0]
    assert 'convert these in the same way' in lines[0]
    write_image(tmp_path / 'b.png')
    assert 'warning' not in ''.join(run(tmp_path / 'b.png', tmp_path / 'out'))


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='POSIX')
def test_pipe_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / 'a.png')
    with pytest.raises(ValueError, match=r'a.png is neither a file nor a folder'):
        find_inputs(str(tmp_path / 'a.png'))


@pytest.mark.parametrize(('images', 'out', 'file'), [
    ('a.png', '.', 'a.png'),  # the picture would replace the image
    ('b', 'b', 'b/c.jpg'), ('b', 'b/out', 'b/c.jpg'), ('.', 'predictions', 'b/c.jpg'),
    ('labels', '.', 'labels/c.png'),  # of a segmenter the labels would
    ('b', '.', 'b/b/c.png'), ('b', 'linked', 'b/c.jpg'),
    ('v.mp4', '.', 'v.mp4')])
def test_output_that_overwrites_inputs_is_refused(tmp_path, monkeypatch, images, out, file):
    monkeypatch.chdir(tmp_path)
    Path(file).parent.mkdir(exist_ok=True, parents=True)
    if out == 'linked':
        Path('linked').symlink_to('b')
    if file == 'b/b/c.png':  # whose own picture is elsewhere
        write_image(Path('b/b/b/c.jpg'))
        images, out = 'b/b', 'b'
    write(Path(file), frames(2)) if file == 'v.mp4' else write_image(Path(file))
    with pytest.raises(ValueError, match='choose a') as refused:
        check_output(find_inputs(images), out)
    assert f'-o {out}' in str(refused.value)


@pytest.mark.parametrize(('images', 'out'), [('b/a.jpg', 'b'), ('b', '.'), ('b/v.avi', 'b'), ('b', 'b2')])
def test_output_next_to_inputs_is_allowed_under_other_names(tmp_path, monkeypatch, images, out):
    monkeypatch.chdir(tmp_path)
    write_image(Path('b/a.jpg'))
    write(tmp_path / 'v.mp4', frames(2))
    Path('v.mp4').rename('b/v.avi')
    before = {file: Path(file).read_bytes() for file in ('b/a.jpg', 'b/v.avi')}
    check_output(find_inputs(images), out)
    run(Path(images), Path(out))
    assert before == {file: Path(file).read_bytes() for file in before}


def test_video_is_drawn_and_its_frames_are_counted(tmp_path):
    write(tmp_path / 'a.mp4', frames(height=240, width=320))
    lines = run(tmp_path / 'a.mp4', tmp_path / 'out')
    reader = VideoReader(tmp_path / 'out' / 'a.mp4')
    assert (reader.rate, len(list(reader))) == (10, 6)
    images = json.loads((tmp_path / 'out' / 'images.json').read_text())['images']
    assert [image['frame'] for image in images] == list(range(6))
    assert images[3] == dict(id=4, file_name='a.mp4', width=320, height=240, frame=3, seconds=0.3)
    assert len(json.loads((tmp_path / 'out' / 'predictions.json').read_text())) == 6
    assert 'frame 1/6' in lines[0]


def test_interrupted_video_leaves_no_partial_video(tmp_path):
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


def test_frames_are_not_kept_in_memory(tmp_path):
    """Of a video only the present frame is in memory."""
    write(tmp_path / 'a.mp4', frames(30))
    alive: list[weakref.ref] = []

    def predict(image: np.ndarray):
        alive.append(weakref.ref(image))
        assert sum(reference() is not None for reference in alive) <= 2
        return DETECTOR.predict(image)
    run(tmp_path / 'a.mp4', tmp_path / 'out', detector=type(DETECTOR)('detection', DETECTOR.classes, predict))
    assert len(alive) == 30


def test_invalid_video_is_refused_before_writing(tmp_path):
    (tmp_path / 'a.mp4').write_bytes(b'no video')
    with pytest.raises(BadVideoError):
        run(tmp_path / 'a.mp4', tmp_path / 'out')
    assert not (tmp_path / 'out').exists()
