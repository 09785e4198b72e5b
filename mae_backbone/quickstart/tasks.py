"""Tasks of the quickstart, their data and metrics."""
from typing import NamedTuple

TRANSFER = 'transfer'  # name of the step that evaluates frozen features
INITS = {'mae': 'from the MAE', 'random': 'from random weights'}


class Task(NamedTuple):
    """A task of the quickstart.

    Attributes:
        name: name of the task.
        folder: folder of its data, relative to the scenes.
        metrics: name of a metric in the log of MMEngine -> its name in the table.
        scale: factor that turns logged values into percent.
    """

    name: str
    folder: str
    metrics: dict[str, str]
    scale: float


TASKS = (
    Task('detection', '', {'coco/bbox_mAP': 'box AP', 'coco/segm_mAP': 'mask AP'}, 100.0),
    Task('segmentation', '', {'mIoU': 'mIoU'}, 1.0),
    Task('classification', 'classes', {'accuracy/top1': 'top-1'}, 1.0),
)
