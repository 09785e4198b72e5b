"""What the dataloaders of a config read: the data sets in it, and where on the disk their files lie."""
import inspect
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.registry import DATASETS
from mmengine.utils import is_abs

from mae_backbone.data.labeled import class_names

SPLITS = ('train', 'val', 'test')
# Classes of data sets that are understood here, with the methods that a subclass must not have changed for that.
_KINDS = {
    'CocoDataset': ('coco', ('load_data_list', 'parse_data_info')),
    'LVISDataset': ('coco', ('load_data_list', 'parse_data_info')),
    'BaseSegDataset': ('label maps', ('load_data_list',)),
    'ClassFolder': ('class folders', ()),
    'UnlabeledImages': ('unlabeled', ()),
}


class DataError(ValueError):
    """Data that cannot be trained on, or that the config does not fit."""


@dataclass(frozen=True, eq=False)
class Source:
    """A data set of a config, out of its wrappers.

    Attributes:
        split: 'train', 'val' or 'test'.
        cfg: its part of the config: not a copy.
        cls: the class that its type names; None where nothing of that name is registered.
    """
    split: str
    cfg: ConfigDict
    cls: type | None

    @property
    def kind(self) -> str:
        """'coco', 'label maps', 'class folders', 'unlabeled'; '' for data that are not understood here."""
        for base in self.cls.__mro__ if self.cls else ():
            kind, methods = _KINDS.get(base.__name__, ('', ()))
            if kind and all(getattr(self.cls, name) is getattr(base, name) for name in methods):
                return kind
        return ''

    @property
    def is_local(self) -> bool:
        """Whether the files are on this machine's disks, and not behind one of MMEngine's other file backends."""
        return '://' not in self.root and not self.option('backend_args')

    @property
    def root(self) -> str:
        """Folder of the data, '' where the config has none."""
        return str(self.option('data_root') or '')

    @property
    def annotations(self) -> str:
        """Path of the annotation file, '' where the config has none."""
        ann_file = self.option('ann_file')
        return self.path(ann_file) if ann_file else ''

    def folder(self, key: str) -> str:
        """Path of the folder that `data_prefix` names under `key`."""
        return self.path((self.option('data_prefix') or {}).get(key) or '')

    def path(self, name: str) -> str:
        """A path of the config as MMEngine's data sets read it: relative to the root, unless it is absolute."""
        return name if is_abs(name) else os.path.join(self.root, name)

    def option(self, name: str) -> object:
        """An argument of the data set: from the config, otherwise its default in the class, otherwise None."""
        if name in self.cfg:
            return self.cfg[name]
        for base in self.cls.__mro__ if self.cls else ():
            parameter = inspect.signature(base.__init__).parameters.get(name) if '__init__' in vars(base) else None
            if parameter is not None and parameter.default is not parameter.empty:
                return parameter.default
        return None

    @property
    def classes(self) -> list[str]:
        """Names of the classes in the order of their labels, from the config or the type; empty if both have none."""
        return self.config_classes or self.default_classes

    @property
    def config_classes(self) -> list[str]:
        """The classes that the config names, empty where it names none."""
        names = (self.option('metainfo') or {}).get('classes') or self.option('classes') or []
        if isinstance(names, str):  # MMEngine takes the path of a file of names; anything else is a forgotten comma
            return Path(names).read_text(encoding='utf-8').splitlines() if os.path.isfile(names) else [names]
        return list(names)

    @property
    def default_classes(self) -> list[str]:
        """The classes that the type of data set is made for, such as the 80 of COCO; empty where it takes any."""
        return list(getattr(self.cls, 'METAINFO', {}).get('classes', []))


def sources(cfg: Config, split: str) -> list[Source]:
    """The data sets that a split reads: those of its dataloader, and of the labeled bank of `KNNLoop`."""
    loop = cfg.get(f'{split}_cfg') or {}
    loaders = [cfg.get(f'{split}_dataloader'), loop.get('bank')]
    return [Source(split, leaf, _class_of(leaf, cfg.get('default_scope')))
            for loader in loaders if isinstance(loader, dict) and isinstance(loader.get('dataset'), dict)
            for leaf in _leaves(loader.dataset)]


def _leaves(dataset: ConfigDict) -> Iterator[ConfigDict]:
    """Takes off the wrappers, such as RepeatDataset and ConcatDataset."""
    inner = dataset.get('datasets') or ([dataset.dataset] if 'dataset' in dataset else [])
    if not inner:
        yield dataset
    for part in inner:
        yield from _leaves(part)


def _class_of(dataset: ConfigDict, scope: str | None) -> type | None:
    name = dataset.get('type')
    if not isinstance(name, str):
        return name
    return DATASETS.get(name if '.' in name or not scope else f'{scope}.{name}')


def dicts_in(config: object) -> Iterator[dict]:
    """All the dicts in a part of a config, it included."""
    if isinstance(config, dict):
        yield config
        config = config.values()
    elif not isinstance(config, (list, tuple)):
        return
    for part in config:
        yield from dicts_in(part)


def class_folders(source: Source) -> list[str]:
    """Names of the classes of a `ClassFolder`: of its folders, list or shards; empty where there are none."""
    return class_names(Path(source.root), source.option('split') or '')


def absent(paths: Iterable[str]) -> list[str]:
    """Those of many paths that do not exist; each folder is listed once, and no file is asked for that is there."""
    folders, missing = {}, []
    for path in paths:
        folder, name = os.path.split(path)
        if folder not in folders:
            folders[folder] = set(os.listdir(folder)) if os.path.isdir(folder) else set()
        if name not in folders[folder]:
            missing.append(path)
    # File systems have their own idea of equal names (case, accents): they have the last word.
    return [path for path in missing if not os.path.exists(path)]


# ---- words for messages

def some(things: Iterable[object]) -> str:
    """The first three of them, for a message."""
    things = [str(thing) for thing in things]
    return ', '.join(things[:3]) + (', ...' if len(things) > 3 else '')


def does_not_exist(path: str, *, suffix: str = '/') -> str:
    """Says that a path does not exist, and what there is in the nearest folder above that does.

    Args:
        path: file or folder.
        suffix: of the files worth naming; '/' for folders only.
    """
    folder = Path(path).absolute().parent
    while not folder.is_dir():
        folder = folder.parent
    with os.scandir(folder) as entries:
        names = sorted(entry.name + '/' * entry.is_dir() for entry in entries if not entry.name.startswith('.'))
    there = [name for name in names if name.endswith(('/', suffix))]
    more = f' and {len(there) - 8} more' if len(there) > 8 else ''
    return f'{path} does not exist; {folder} holds {", ".join(there[:8]) + more or "nothing of the kind"}'


def evenly(things: Sequence, count: int) -> list:
    """At most `count` of them, at even distances."""
    count = min(count, len(things))
    return [things[i * len(things) // count] for i in range(count)]
