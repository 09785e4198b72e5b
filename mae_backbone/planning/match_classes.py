"""Classes of a checkpoint compared with those of the data that it is tested on."""
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config

from mae_backbone.checkpoints.reading import read_content
from mae_backbone.formats.class_folders import ClassFolders
from mae_backbone.formats.coco import CocoFormat
from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.registry import formats_in


def checkpoint_classes(path: str | Path) -> list[str]:
    """Names of the classes in a checkpoint of `mae-backbone train`; empty if it has none, such as an encoder."""
    content = read_content(path)
    meta = content.get('meta') if isinstance(content, dict) else None
    dataset_meta = meta.get('dataset_meta') if isinstance(meta, dict) else None
    names = dataset_meta.get('classes') if isinstance(dataset_meta, dict) else None
    return list(map(str, names)) if isinstance(names, (list, tuple)) else []


def match_classes(cfg: Config, names: Sequence[str], checkpoint: str | Path, *, with_labels: bool = True) -> list[str]:
    """Orders the classes of the test data as those of a checkpoint. Returns lines for the plan.

    Labels are indices: with the same names in another order, every prediction would be compared with the label of
    another class, and the metrics would be near 0 without an error.

    Args:
        cfg: config whose classes `adapt_classes` took from the data; changed in place.
        names: classes of the checkpoint, in the order of its labels; empty if they are not known.
        checkpoint: for messages.
        with_labels: False if the labels of the data are not used, so that their order does not matter.

    Raises:
        DataError: the data have other classes, or an order that cannot be mapped.
    """
    lines = []
    for data_format in formats_in(cfg, ['test']):
        of_data = data_format.spec.class_names
        if not names or not of_data or of_data == list(names):
            continue
        lists = f'{checkpoint} was trained on {_list(names)}, the test data have {_list(of_data)}'
        if sorted(of_data) != sorted(names):
            missing, unknown = (', '.join(sorted(set(a) - set(b))[:8]) or 'none'
                                for a, b in ((names, of_data), (of_data, names)))
            raise DataError(f'{lists} (missing: {missing}; unknown: {unknown}): test on data with the classes of the '
                            'checkpoint, or pass the checkpoint that was trained on these data')
        if not with_labels:
            continue
        if not (isinstance(data_format, ClassFolders)
                or (isinstance(data_format, CocoFormat) and _reads_annotations(cfg))):
            raise DataError(f'{lists}, the same in another order, which stands for other labels: put the classes of '
                            'the data (classes.txt, or metainfo in the config) into the order of the checkpoint, and '
                            'the labels with them')
        lines += data_format.set_classes(list(names))
        lines.append(f'classes: the data have the names of {checkpoint} in another order; labels are matched by name')
    return lines


def _list(names: Sequence[str]) -> str:
    return f'{len(names)} classes ({", ".join(names[:8])}{", ..." if len(names) > 8 else ""})'


def _reads_annotations(cfg: Config) -> bool:
    """Whether all metrics of the test set read an annotation file, so that they match categories by name.

    Labels of mmdet's data sets are in the order of the file, whatever the order of the classes in the config.
    """
    evaluator = cfg.get('test_evaluator') or {}
    metrics = evaluator if isinstance(evaluator, (list, tuple)) else [evaluator]
    return all(metric.get('ann_file') and str(metric.get('type')).endswith(('CocoMetric', 'LVISMetric'))
               for metric in metrics)
