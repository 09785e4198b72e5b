"""Detection of formats."""
import pytest
from mmengine.config import Config

from mae_backbone.formats.class_folders import ClassFolders
from mae_backbone.formats.coco import CocoFormat, LvisFormat
from mae_backbone.formats.data_format import DataFormat
from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.label_maps import LabelMaps
from mae_backbone.formats.registry import formats_in
from mae_backbone.formats.unlabeled import UnlabeledImages


@pytest.mark.parametrize(('name', 'expected'), [
    ('mmdet.CocoDataset', CocoFormat), ('mmdet.CityscapesDataset', CocoFormat),
    ('mae_backbone.LVISDataset', LvisFormat),
    ('mmdet.CocoPanopticDataset', DataFormat), ('mmdet.Objects365V1Dataset', DataFormat),
    ('mmdet.VOCDataset', DataFormat), ('mmseg.BaseSegDataset', LabelMaps), ('mmseg.ADE20KDataset', LabelMaps),
    ('mmseg.NYUDataset', DataFormat), ('mae_backbone.ClassFolder', ClassFolders),
    ('mae_backbone.UnlabeledImages', UnlabeledImages), ('Nothing', DataFormat)])
def test_only_data_sets_that_read_files_in_a_known_way_are_detected(name: str, expected: type) -> None:
    if name == 'mae_backbone.LVISDataset':
        pytest.importorskip('mae_backbone.detection')
    data_format, = formats_in(Config(dict(train_dataloader=dict(dataset=dict(type=name)))))
    assert type(data_format) is expected


def test_unknown_format_names_nothing_and_refuses_to_list_images() -> None:
    dataset = dict(type='mmdet.VOCDataset', data_root='x')
    data_format, = formats_in(Config(dict(train_dataloader=dict(dataset=dataset))))
    assert data_format.classes().names == []
    assert data_format.check(masks=True, labels=True) == ['train: mmdet.VOCDataset in x: not checked']
    with pytest.raises(DataError, match='is not understood: expected a data set in COCO'):
        data_format.images()
    with pytest.raises(DataError, match='has no labels or is not understood'):
        data_format.subset(0.5, 0)
