"""Names of configs become paths; an unknown name is refused with similar ones."""
from pathlib import Path

import pytest

from mae_backbone.utils.config_files import configs_root, find_config

FILE = configs_root() / 'detection' / 'mask-rcnn_vitdet-b_100e_coco.py'


@pytest.mark.parametrize('name', [
    FILE, 'mask-rcnn_vitdet-b_100e_coco', 'mask-rcnn_vitdet-b_100e_coco.py', 'detection/mask-rcnn_vitdet-b_100e_coco',
    'mae_backbone::detection/mask-rcnn_vitdet-b_100e_coco.py', 'configs/detection/mask-rcnn_vitdet-b_100e_coco.py'])
def test_config_is_found_by_path_and_by_name_from_any_folder(name: str | Path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config(name) == FILE


def test_path_of_an_existing_file_wins_over_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('mask-rcnn_vitdet-b_100e_coco').touch()
    assert find_config('mask-rcnn_vitdet-b_100e_coco') == Path('mask-rcnn_vitdet-b_100e_coco')


@pytest.mark.parametrize('name', ['mask-rcnn_vitdet-b_100_coco', 'configs/detection/mask-rcnn_vitdet_b_100e_coco.py'])
def test_unknown_config_is_refused_with_similar_names(name: str):
    with pytest.raises(FileNotFoundError, match=r'does not exist: did you mean .*mask-rcnn_vitdet-b_100e_coco'):
        find_config(name)


def test_names_of_configs_are_unique():
    names = [file.name for file in configs_root().rglob('*.py') if '_base_' not in file.parts]
    assert len(names) == len(set(names))
