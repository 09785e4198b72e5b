"""Settings of the data sets of a config, and the paths of their files."""
import inspect
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.registry import DATASETS
from mmengine.utils import is_abs

SPLITS = ('train', 'val', 'test')


class DataError(ValueError):
    """Data cannot be used for training or testing, or do not fit the config."""


@dataclass(frozen=True, eq=False)
class DatasetSpec:
    """Settings of one data set of a config, without its wrappers.

    Attributes:
        split: 'train', 'val' or 'test'.
        cfg: settings of the data set. It is a part of the config and not a copy, so that changes affect the run.
        cls: class of the data set; None if its type is not registered.
        wrapper_pipelines: pipelines of the wrappers around the data set, such as MultiImageMixDataset.
    """
    split: str
    cfg: ConfigDict
    cls: type | None
    wrapper_pipelines: tuple = ()

    @property
    def type_name(self) -> str:
        """Type of the data set in the config."""
        return str(self.cfg.get('type'))

    @property
    def is_local(self) -> bool:
        """True if the files are on a local disk, and not accessed through another file backend of MMEngine."""
        return '://' not in self.root and not self.option('backend_args')

    @property
    def root(self) -> str:
        """Folder of the data; '' if it is not in the config."""
        return str(self.option('data_root') or '')

    @property
    def annotations(self) -> str:
        """Path of the annotation file; '' if it is not in the config."""
        ann_file = self.option('ann_file')
        return self.path(ann_file) if ann_file else ''

    def folder(self, key: str) -> str:
        """Returns the path of a folder of `data_prefix` by its key, such as 'img'."""
        return self.path((self.option('data_prefix') or {}).get(key) or '')

    def path(self, name: str) -> str:
        """Resolves a path of the config as in the data sets of MMEngine: it is absolute or relative to the root."""
        return name if is_abs(name) else os.path.join(self.root, name)

    def option(self, name: str) -> Any:
        """Returns an argument of the data set from the config. Otherwise its default value in the class, or None."""
        if name in self.cfg:
            return self.cfg[name]
        for base in self.cls.__mro__ if self.cls else ():
            if '__init__' not in vars(base):
                continue
            parameter = inspect.signature(vars(base)['__init__']).parameters.get(name)
            if parameter is not None and parameter.default is not parameter.empty:
                return parameter.default
        return None

    def transforms(self) -> Iterator[dict]:
        """Yields the transforms of the data set and of its wrappers, including nested ones."""
        yield from dicts_in(self.option('pipeline'))
        yield from dicts_in(self.wrapper_pipelines)

    @property
    def class_names(self) -> list[str]:
        """Class names in the order of the labels: from the config, otherwise from the type; may be empty."""
        return self.config_class_names or self.default_class_names

    @property
    def config_class_names(self) -> list[str]:
        """Class names in the config; empty if it has none."""
        names = (self.option('metainfo') or {}).get('classes') or self.option('classes') or []
        if isinstance(names, str):
            # MMEngine accepts the path of a file with one name per line. Any other string is a single name: a tuple of
            # one name without its comma.
            return Path(names).read_text(encoding='utf-8').splitlines() if os.path.isfile(names) else [names]
        return list(names)

    @property
    def default_class_names(self) -> list[str]:
        """Predefined class names of the type, such as the 80 of COCO; empty if the type supports any classes."""
        return list(getattr(self.cls, 'METAINFO', {}).get('classes', []))


def dataset_specs(cfg: Config, split: str) -> list[DatasetSpec]:
    """Lists the data sets of a split: the data sets of its dataloader, and the labeled images of `KNNLoop` (`bank`)."""
    loop = cfg.get(f'{split}_cfg') or {}
    loaders = [cfg.get(f'{split}_dataloader'), loop.get('bank')]
    return [DatasetSpec(split, dataset, _class_of(dataset, cfg.get('default_scope')), pipelines)
            for loader in loaders if isinstance(loader, dict) and isinstance(loader.get('dataset'), dict)
            for dataset, pipelines in _unwrapped(loader['dataset'])]


def dicts_in(config: object) -> Iterator[dict]:
    """Yields all dicts nested in a config, including the config itself."""
    if isinstance(config, dict):
        yield config
        children: Any = config.values()
    elif isinstance(config, (list, tuple)):
        children = config
    else:
        return
    for child in children:
        yield from dicts_in(child)


def _unwrapped(dataset: ConfigDict, pipelines: tuple = ()) -> Iterator[tuple[ConfigDict, tuple]]:
    """Yields the data sets inside wrappers such as RepeatDataset, each with the pipelines of its wrappers."""
    inner = dataset.get('datasets') or ([dataset['dataset']] if 'dataset' in dataset else [])
    if not inner:
        yield dataset, pipelines
    for wrapped in inner:
        yield from _unwrapped(wrapped, (*pipelines, dataset.get('pipeline') or ()))


def _class_of(dataset: ConfigDict, scope: str | None) -> type | None:
    name = dataset.get('type')
    if not isinstance(name, str):
        return name
    return DATASETS.get(name if '.' in name or not scope else f'{scope}.{name}')
