"""Data set of images and label maps that a file lists in pairs."""
from mmseg.datasets import BaseSegDataset

from mae_backbone.formats.label_map_files import read_pairs
from mae_backbone.registry import DATASETS


@DATASETS.register_module()
class ListedSegDataset(BaseSegDataset):
    """Like mmseg's `BaseSegDataset`, with images and label maps of any names.

    `ann_file` is a JSON list of pairs [image, label map], relative to `data_root` or absolute. `img_suffix`,
    `seg_map_suffix` and `data_prefix` are not used.

    Raises:
        DataError: the list cannot be read.
    """

    def load_data_list(self) -> list[dict]:
        """Returns the paths of all pairs, with the keys that mmseg's transforms need."""
        return [dict(img_path=image, seg_map_path=path, label_map=self.label_map,
                     reduce_zero_label=self.reduce_zero_label, seg_fields=[])
                for image, path in read_pairs(self.ann_file, self.data_root or '')]
