from pathlib import Path

from helpers.small_sets import class_folder_config

from mae_backbone.formats.class_folders import ClassFolders
from mae_backbone.formats.dataset_spec import dataset_specs


def test_class_folders_are_sorted_without_files_and_hidden_folders(tmp_path: Path) -> None:
    for name in ('b', 'a', '.hidden'):
        (tmp_path / 'train' / name).mkdir(parents=True)
    (tmp_path / 'train' / 'notes.txt').write_text('')
    spec, = dataset_specs(class_folder_config(tmp_path), 'train')
    assert ClassFolders(spec).names_on_disk() == ['a', 'b']
    absent, = dataset_specs(class_folder_config(tmp_path / 'nowhere'), 'train')
    assert ClassFolders(absent).names_on_disk() == []
