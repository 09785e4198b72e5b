from pathlib import Path

from helpers.small_sets import coco_content, write_coco

from mae_backbone.formats.coco_file import read_coco
from mae_backbone.formats.coco_json import read_annotations


def test_annotations_of_some_images_are_those_of_the_whole_file(tmp_path: Path) -> None:
    content = coco_content()
    content['annotations'] = [
        dict(id=1, image_id=1, category_id=7, bbox=[0, 0, 2, 2], area=4, segmentation=dict(size=[4, 4], counts=[16])),
        dict(id=2, image_id=2, category_id=7, bbox=[0, 0, 2, 2], area=4, attributes=dict(bbox=[1], image_id=[1])),
        dict(id=3, image_id=1, category_id=3, bbox=[1, 1, 2, 2], area=4, segmentation=[[0, 0, 2, 0, 2, 2]])]
    path = write_coco(tmp_path, content)
    read_coco(str(path))
    for ids in ([], [1], [2], [2, 1], [99]):
        expected = [annotation for annotation in content['annotations'] if annotation['image_id'] in ids]
        found = read_annotations(str(path), ids)
        assert [annotation['id'] for annotation in found] == [annotation['id'] for annotation in expected]
        assert all(annotation.get('segmentation') == other.get('segmentation')
                   for annotation, other in zip(found, expected, strict=True))
