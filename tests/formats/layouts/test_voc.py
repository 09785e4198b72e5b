"""Pascal VOC: boxes, splits and faults."""
from pathlib import Path

import pytest
from helpers.layouts import Shape, expected, objects_of, scene, voc_xml, write_voc

from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.layouts import voc
from mae_backbone.formats.layouts.registry import find_layout

ROBOFLOW = '<polygon><x1>5</x1><y1>7</y1><x2>24</x2><y2>7</y2><x3>24</x3><y3>21</y3></polygon>'
LABELME = ('<polygon><username>x</username><pt><x>5</x><y>7</y></pt><pt><x>24</x><y>7</y></pt><pt><x>24</x><y>21</y>'
           '</pt></polygon>')


@pytest.mark.parametrize('lists', [True, False])
def test_reads_boxes_with_lists_or_folders_of_splits(tmp_path: Path, lists: bool) -> None:
    write_voc(tmp_path, lists=lists)
    assert find_layout(tmp_path) is voc.LAYOUT
    labeled = voc.read(tmp_path)
    assert objects_of(labeled) == expected()
    assert labeled.names == ['blue', 'red']
    assert '4 images (3 train, 1 val), 4 objects of 2 classes, 1 background' in labeled.lines()[0]


@pytest.mark.parametrize('folder', ['Main', 'ImageSets'])
def test_lists_of_splits_may_be_in_other_folders(tmp_path: Path, folder: str) -> None:
    write_voc(tmp_path)
    lists = (tmp_path / 'ImageSets/Main').rename(tmp_path / 'lists')
    (tmp_path / 'ImageSets').rmdir()
    lists.rename(tmp_path / folder)
    assert objects_of(voc.read(tmp_path)) == expected()


def test_an_image_that_is_not_found_because_there_are_two_is_explained(tmp_path: Path) -> None:
    for split in ('train', 'val'):
        scene(tmp_path / 'photos' / split / 'a.jpg', (20, 20))
    (tmp_path / 'Annotations').mkdir()
    (tmp_path / 'Annotations/a.xml').write_text(voc_xml((20, 20), [], filename='a.jpg'))
    with pytest.raises(DataError, match=r'a\.xml \(ambiguous: photos/train/a\.jpg, photos/val/a\.jpg\)'):
        voc.read(tmp_path)


def test_boxes_that_start_at_0_are_counted_from_0(tmp_path: Path) -> None:
    labeled = voc.read(write_voc(tmp_path, start=0))
    assert objects_of(labeled) == expected()
    assert any('counted from 0' in line for line in labeled.lines())


def test_difficult_objects_are_regions_to_ignore(tmp_path: Path) -> None:
    write_voc(tmp_path)
    shapes = [Shape('red', (4, 6, 20, 15))]
    (tmp_path / 'Annotations/a b.xml').write_text(voc_xml((61, 47), shapes, more='<difficult>1</difficult>'))
    labeled = voc.read(tmp_path)
    assert [annotation['iscrowd'] for annotation in labeled.content('train')['annotations']] == [1, 0]
    assert any('marked difficult' in line for line in labeled.lines())


def test_trainval_counts_as_train_and_devkits_of_two_years_are_read_together(tmp_path: Path) -> None:
    for year in ('VOC2007', 'VOC2012'):
        write_voc(tmp_path / year)
        for name in ('train', 'val'):
            (tmp_path / year / f'ImageSets/Main/{name}.txt').rename(tmp_path / year / f'ImageSets/Main/_{name}.txt')
        (tmp_path / year / 'ImageSets/Main/trainval.txt').write_text('a b\ngrün\n', encoding='utf-8')
        (tmp_path / year / 'ImageSets/Main/test.txt').write_text('c -1\n', encoding='utf-8')
    labeled = voc.read(tmp_path)
    assert sorted(image.split for image in labeled.images) == ['test', 'test', 'train', 'train', 'train', 'train']
    assert any('in no list of ImageSets/Main: 2' in line for line in labeled.lines())


def test_file_name_of_the_xml_counts_if_no_image_has_its_name(tmp_path: Path) -> None:
    scene(tmp_path / 'imgs/Photo.JPG', (20, 20))
    (tmp_path / '0001.xml').write_text(voc_xml((20, 20), [Shape('red', (2, 2, 5, 5))], filename='photo.jpg'))
    assert voc.read(tmp_path).images[0].file_name == 'imgs/Photo.JPG'


@pytest.mark.parametrize(('change', 'message'), [
    (lambda text: text[:120], r'a b\.xml, line 1: not XML .*truncated'),
    (lambda text: '<!DOCTYPE a [<!ENTITY b "c">]>' + text, r'declares a document type'),
    (lambda text: text.replace('<xmax>24</xmax>', '<xmax>2</xmax>'), r'a b\.xml, object 1 \(red\).*larger than the m'),
    (lambda text: text.replace('<xmin>5</xmin>', '<xmin>five</xmin>'), r"<xmin> of red is 'five', expected a number"),
    (lambda text: text.replace('<xmin>5</xmin>', ''), r'<xmin> of red is None'),
    (lambda text: text.replace('<name>red</name>', ''), r'object 1: it has no <name>'),
    (lambda text: text.replace('<name>red</name>', '<name>red</name><polygon><x1>2</x1><y1>3</y1></polygon>'),
     r'object 1 \(red\): its polygon has 1 points, expected at least 3'),
    (lambda text: text.replace('<name>red</name>', '<name>red</name>' + ROBOFLOW.replace('<y2>7', '<y2>up')),
     "a coordinate of the polygon of red is 'up'"),
    (lambda text: text.replace('<width>61', '<width>610'), r'states 610x47 pixels, but .*a b.jpg has 61x47'),
])
def test_faulty_file_is_named(tmp_path: Path, change, message: str) -> None:
    path = write_voc(tmp_path) / 'Annotations/a b.xml'
    path.write_text(change(path.read_text()))
    with pytest.raises(DataError, match=message):
        voc.read(tmp_path)


@pytest.mark.parametrize('polygon', [ROBOFLOW, LABELME])
def test_polygons_are_read_and_boxes_beside_them_get_a_mask(tmp_path: Path, polygon: str) -> None:
    path = write_voc(tmp_path) / 'Annotations/a b.xml'
    text = path.read_text()
    path.write_text(text.replace('<name>red</name>', f'<name>red</name>{polygon}'))
    labeled = voc.read(tmp_path)
    assert objects_of(labeled) == expected()
    image = next(image for image in labeled.images if 'a b' in image.file_name)
    triangle, rectangle = image.objects
    # Pixels count from 1, and the points are their centers.
    assert triangle.segmentation == [[4.5, 6.5, 23.5, 6.5, 23.5, 20.5]]
    assert rectangle.segmentation == [[30, 20, 55, 20, 55, 46, 30, 46]]
    without_box = path.read_text()
    start, end = without_box.index('<bndbox>'), without_box.index('</bndbox>') + len('</bndbox>')
    path.write_text(without_box[:start] + without_box[end:])
    image = next(image for image in voc.read(tmp_path).images if 'a b' in image.file_name)
    assert image.objects[0].box == (4.5, 6.5, 19, 14)


def test_missing_images_and_contradictory_lists_are_named(tmp_path: Path) -> None:
    write_voc(tmp_path)
    (tmp_path / 'ImageSets/Main/val.txt').write_text('c\na b\n')
    with pytest.raises(DataError, match=r'val\.txt, line 2: .*a b\.jpg is in the lists of two splits'):
        voc.read(tmp_path)
    (tmp_path / 'ImageSets/Main/val.txt').write_text('c\nmissing\n')
    with pytest.raises(DataError, match=r'val\.txt, line 2: there is no image missing'):
        voc.read(tmp_path)
    (tmp_path / 'JPEGImages/a b.jpg').unlink()
    with pytest.raises(DataError, match=r'1 of 4 XML files have no image with their name \(Annotations/a b\.xml\)'):
        voc.read(tmp_path)


def test_two_images_of_one_name_are_refused_and_unlabeled_images_are_counted(tmp_path: Path) -> None:
    write_voc(tmp_path)
    scene(tmp_path / 'JPEGImages/unlabeled.jpg', (20, 20))
    assert any('images without an XML file: 1' in line for line in voc.read(tmp_path).lines())
    (tmp_path / 'Annotations/a b.xml').write_text(voc_xml((61, 47), [], filename=''))
    scene(tmp_path / 'JPEGImages/a b.png', (61, 47))
    with pytest.raises(DataError, match='several images have this name'):
        voc.read(tmp_path)
