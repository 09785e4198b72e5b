"""`mae-backbone predict`: options that contradict the files are refused."""
import pytest
from helpers.commands import refused
from helpers.model_files import write_checkpoint
from helpers.small_sets import write_image


@pytest.mark.parametrize(('root', 'file'), [
    ('nowhere', 'nowhere/annotations/instances_val2017.json'), ('images', 'images/annotations/instances_val2017.json')])
def test_data_root_without_the_annotations_is_refused(root, file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / 'images' / 'a.png', (72, 48))
    checkpoint = write_checkpoint('detection', tmp_path)
    message = refused('predict', checkpoint, 'images', '-o', 'out', '--data-root', root)
    assert f'--data-root {root}: {file} does not exist' in message
    assert 'leave --data-root out' in message
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('task', ['segmentation', 'classification'])
def test_data_root_that_does_not_exist_is_refused(task, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / 'a.png', (72, 48))
    message = refused('predict', write_checkpoint(task, tmp_path), 'a.png', '--data-root', 'nowhere')
    assert '--data-root nowhere: ' in message


def test_overlap_without_tiles_is_refused():
    assert '--overlap 0.1 has no effect without --tile' in refused('predict', 'a.pth', 'a.png', '--overlap', '0.1')
