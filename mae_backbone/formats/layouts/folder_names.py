"""Names of folders that tell only what kind of files is in them."""
import os
from collections.abc import Iterable

IMAGE_FOLDERS = frozenset({
    'images', 'image', 'imgs', 'img', 'jpegimages', 'photos', 'pictures', 'data', 'default', 'upload', 'uploads',
    'media', 'files', 'rgb'})
LABEL_FOLDERS = frozenset({
    'labels', 'label', 'annotations', 'annotation', 'annots', 'txt', 'txts', 'bboxes', 'yolo', 'labels_yolo',
    'yolo_labels', 'labels_txt', 'labels-yolo', 'yolo-labels'})
# Folders of a project with pictures for people, and no images of a data set.
PROJECT_FOLDERS = frozenset({
    'assets', 'doc', 'docs', 'example', 'examples', 'fig', 'figs', 'figure', 'figures', 'inference', 'notebooks',
    'output', 'outputs', 'plots', 'predictions', 'result', 'results', 'runs', 'samples', 'screenshots', 'scripts',
    'src', 'statistics', 'visualizations', 'wandb', 'work_dirs'})


def outside_projects(paths: Iterable[str]) -> list[str]:
    """Returns the paths that are in no folder of `PROJECT_FOLDERS` below the folder that all of them share."""
    paths = list(paths)
    shared = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else ''
    start = len(shared) + bool(shared)
    return [path for path in paths if path[start:].partition('/')[0].lower() not in PROJECT_FOLDERS]
