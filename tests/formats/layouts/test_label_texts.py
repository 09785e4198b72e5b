"""Label files of images: the usual folders, other names of folders, and files that belong to no image."""
from pathlib import Path

import pytest

from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.layouts.label_texts import LabelTexts
from mae_backbone.formats.layouts.labeled_set import Findings

LABEL = '0 0.5 0.5 0.1 0.1\n'


def texts_of(root: Path, *names: str, images: tuple[str, ...] = (), notes: Findings | None = None,
             content: str = LABEL) -> LabelTexts:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return LabelTexts(root, images, notes or Findings())


@pytest.mark.parametrize(('image', 'text'), [
    ('images/train/a.jpg', 'labels/train/a.txt'), ('train/images/a.jpg', 'train/labels/a.txt'), ('a.jpg', 'a.txt'),
    ('Images/a.jpg', 'Labels/a.txt'), ('train/IMG/A.JPG', 'train/labels/a.txt'), ('img/val/a.png', 'label/val/a.txt'),
    ('JPEGImages/a.jpg', 'annotations/a.txt'), ('imgs/a.jpg', 'imgs/labels/a.txt'), ('b/a.jpg', 'labels/a.txt'),
    ('images/\u00e9.jpg', 'labels/e\u0301.txt')])
def test_labels_are_found_in_folders_of_labels(tmp_path: Path, image: str, text: str) -> None:
    assert texts_of(tmp_path, text).of(image) == text
    assert not texts_of(tmp_path, text).of(image.replace('a.', 'x.').replace('A.', 'X.').replace('\u00e9', 'x'))


def test_labels_in_another_folder_are_found_by_a_unique_name(tmp_path: Path) -> None:
    notes = Findings()
    images = ('frames/a.jpg', 'frames/b.jpg', 'more/b.jpg', 'frames/c.jpg')
    texts = texts_of(tmp_path, 'boxes/a.txt', 'boxes/b.txt', images=images, notes=notes)
    assert [texts.of(image) for image in images] == ['boxes/a.txt', '', '', '']
    assert notes.lines() == [
        'label files found by their name, in another folder than usual: 1 (frames/a.jpg -> boxes/a.txt)']
    assert not texts_of(tmp_path, 'about/c.txt', images=images, content='about the data').of('frames/c.jpg')


def test_labels_of_an_image_outside_of_the_root_are_found(tmp_path: Path) -> None:
    texts_of(tmp_path, 'more/labels/a.txt')
    assert texts_of(tmp_path / 'set', 'labels/b.txt').of('../more/images/a.jpg') == '../more/labels/a.txt'


def test_several_label_files_of_an_image_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r'img/a\.jpg has several label files \(annots/a\.txt, txt/a\.txt\)'):
        texts_of(tmp_path, 'annots/a.txt', 'txt/a.txt').of('img/a.jpg')


def test_label_files_that_belong_to_no_image_are_listed(tmp_path: Path) -> None:
    texts_of(tmp_path, 'labels/classes.txt', 'train.txt', 'labels/empty.txt', 'README.txt', content='')
    texts = texts_of(tmp_path, 'labels/a.txt', 'old/b.txt', 'labels/c.txt')
    assert list(texts.unused(['labels/c.txt', ''])) == ['labels/a.txt', 'labels/empty.txt', 'old/b.txt']
