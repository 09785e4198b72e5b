"""Names whose accents are stored in two Unicode forms, as in data that were labeled on a Mac."""
import unicodedata
from pathlib import Path

import pytest
from helpers.layouts import expected, objects_of, write_voc, write_yolo
from helpers.small_sets import (
    class_folder_config,
    coco_config,
    coco_content,
    label_map_config,
    write_class_folders,
    write_coco,
    write_image,
    write_label_maps,
)

from mae_backbone.formats.check import check_data
from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.layouts import voc, yolo
from mae_backbone.formats.layouts.map_pairs import find_map_pairs
from mae_backbone.formats.messages import case_hint
from mae_backbone.planning.adapt_config import adapt_classes

NAME = 'grün'
NFC, NFD = (unicodedata.normalize(form, NAME) for form in ('NFC', 'NFD'))


def rename_images(root: Path) -> None:
    """Renames images with accents to the form of macOS, but not their label files."""
    for path in [path for path in root.rglob('*') if path.suffix in ('.png', '.jpg') and not path.name.isascii()]:
        path.rename(path.with_name(unicodedata.normalize('NFD', path.name)))


@pytest.mark.parametrize(('write', 'layout'), [(write_voc, voc), (write_yolo, yolo)])
def test_label_files_are_found_whatever_the_form_of_the_accents(tmp_path: Path, write, layout) -> None:
    write(tmp_path)
    rename_images(tmp_path)
    found = objects_of(layout.read(tmp_path))
    assert {unicodedata.normalize('NFC', name): objects for name, objects in found.items()} == expected()


def test_lists_of_voc_may_have_another_form_than_the_files(tmp_path: Path) -> None:
    write_voc(tmp_path)
    for path in (tmp_path / 'Annotations').iterdir():
        path.rename(path.with_name(unicodedata.normalize('NFD', path.name)))
    assert objects_of(voc.read(tmp_path)) == expected()


def test_label_maps_are_paired_whatever_the_form_of_the_accents(tmp_path: Path) -> None:
    for folder, name in (('images', NFD), ('masks', NFC)):
        write_image(tmp_path / folder / f'{name}.png', (4, 4))
    found = find_map_pairs(tmp_path)
    assert found is not None
    assert [tuple(pair) for pair in found.pairs] == [(f'images/{NFD}.png', f'masks/{NFC}.png', '')]


def refused(cfg) -> str:
    adapt_classes(cfg)
    with pytest.raises(DataError) as caught:
        check_data(cfg, splits=['train'])
    return str(caught.value)


def test_files_that_seem_to_exist_are_refused_with_the_reason(tmp_path: Path) -> None:
    content = coco_content()
    content['images'][0]['file_name'] = f'{NFC}.png'
    write_coco(tmp_path / 'coco', content)
    (tmp_path / 'coco/train/a.png').rename(tmp_path / f'coco/train/{NFD}.png')
    message = refused(coco_config(tmp_path / 'coco'))
    assert 'do not exist' in message
    assert 'stores accents in another Unicode form (NFC or NFD): use one form' in message

    write_label_maps(tmp_path / 'maps')
    for path in [*(tmp_path / 'maps').rglob('a.???')]:
        path.rename(path.with_stem(NFC if path.suffix == '.png' else NFD))
    assert 'stores accents in another Unicode form' in refused(label_map_config(tmp_path / 'maps'))


def test_classes_that_seem_equal_are_refused_with_the_reason(tmp_path: Path) -> None:
    for split, name in (('train', NFC), ('val', NFD)):
        write_class_folders(tmp_path, split, ('cat', name))
    cfg = class_folder_config(tmp_path)
    adapt_classes(cfg)
    with pytest.raises(DataError, match=r'The accents of .* are stored in two Unicode forms'):
        check_data(cfg, splits=['val'])
    assert case_hint([NFC, 'red'], [NFD, 'Red']).count('. ') == 2
    assert case_hint([NFC], [NFC]) == ''
