"""List of all formats. To add one, write a subclass of `DataFormat` in its own file and add it to `FORMATS`."""
from collections.abc import Sequence

from mmengine.config import Config

from mae_backbone.formats.class_folders import ClassFolders
from mae_backbone.formats.coco import CocoFormat, LvisFormat
from mae_backbone.formats.data_format import DataFormat
from mae_backbone.formats.dataset_spec import SPLITS, DatasetSpec, dataset_specs
from mae_backbone.formats.label_maps import LabelMaps
from mae_backbone.formats.unlabeled import UnlabeledImages

FORMATS: tuple[type[DataFormat], ...] = (LvisFormat, CocoFormat, LabelMaps, ClassFolders, UnlabeledImages)


def format_of(spec: DatasetSpec) -> DataFormat:
    """Returns the data set in its format; a plain `DataFormat` if no format of `FORMATS` is detected."""
    return next((data_format for data_format in FORMATS if data_format.detect(spec)), DataFormat)(spec)


def formats_in(cfg: Config, splits: Sequence[str] = SPLITS) -> list[DataFormat]:
    """Returns the data sets of some splits of a config, each in its format."""
    return [format_of(spec) for split in splits for spec in dataset_specs(cfg, split)]
