import numpy as np

from mae_backbone.formats.coco_objects import IdList, TrainedObjects


def test_an_id_list_holds_integers_of_64_bits_and_texts():
    ids = IdList()
    for value in (3, 'a', -2**63, 2**63 - 1, 'b', 3):
        ids.append(value)
    assert len(ids) == 6
    assert list(ids) == [3, -2**63, 2**63 - 1, 3, 'a', 'b']


def test_objects_are_in_the_order_in_which_they_are_added():
    objects = TrainedObjects()
    assert objects.boxes.shape == (0, 4)
    assert objects.areas.shape == (0,)
    objects.add(dict(bbox=[1, 2.5, 3, 4], area=12), 7, 0)
    objects.add(dict(bbox=[5, 6, 7, 8], area=1024.001), 2, 1)
    assert np.array_equal(objects.boxes, [[1, 2.5, 3, 4], [5, 6, 7, 8]])
    assert objects.areas.tolist() == [12, 1024.001]
    assert objects.images.tolist() == [7, 2]
    assert objects.categories.tolist() == [0, 1]
