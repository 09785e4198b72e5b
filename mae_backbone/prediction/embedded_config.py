"""Reads the config in a checkpoint in a safe way: the result has only plain values and registered types.

A checkpoint may be untrusted, and building its config could execute code or read files. MMEngine imports any dotted
name in a `type`. mmcv evaluates the type of `nms` as Python. Several modules of mmdet and mmseg read files, download
weights or run configs that are named in an argument. Therefore only the parts that a prediction needs are copied, and
every value must be in an allow-list.
"""
import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mmengine.registry
from mmengine.config import Config
from mmengine.utils import is_abs

from mae_backbone.checkpoints.config_text import config_in
from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.formats.dataset_spec import dicts_in
from mae_backbone.formats.layout_cache import UNKNOWN_FOLDER, is_written
from mae_backbone.planning.adapt_config import replace_data_root

SCOPES = ('mae_backbone', 'mmdet', 'mmseg', 'mmengine')
# Packages with our extensions of mmdet and mmseg. Configs list them in `custom_imports`.
_OWN_PARTS = {'mmdet': 'mae_backbone.detection', 'mmseg': 'mae_backbone.segmentation'}
# Keys that are not copied: pretrained weights and teachers. The checkpoint already has the weights.
_DROPPED = ('init_cfg', 'pretrained', 'teacher', 'checkpoint_path', 'pretrained_cfg', 'pretrained_cfg_overlay',
            'cache_dir', '_delete_')
# Allowed types by key, for types that are not in a registry: batched_nms of mmcv.ops evaluates the type as Python, and
# RoI extractors look it up in mmcv.ops.
_OPS = {'nms': ('nms', 'soft_nms'), 'nms_cfg': ('nms', 'soft_nms'), 'roi_layer': ('RoIAlign', 'RoIPool')}
# Pattern of the strings of a model, which are names of options. Strings without dots, slashes, colons and brackets
# cannot be a path, a URL or code.
_WORD = re.compile(r'[\w-]{0,100}')
# Transforms that are allowed in test pipelines. They read and change only the image.
_TRANSFORMS = ('LoadImageFromFile', 'LoadImageFromNDArray', 'LoadImage', 'LoadAnnotations', 'Resize', 'RandomFlip',
               'Pad', 'Normalize', 'ResizeToMultiple', 'CenterCrop', 'PackDetInputs', 'PackSegInputs', 'TestTimeAug')
# Modules with classes that are refused, because they read files, download weights or run configs named in an argument.
_REFUSED_MODULES = (
    'mmdet.models.language_models', 'mmdet.models.mot', 'mmdet.models.reid', 'mmdet.models.trackers',
    'mmdet.models.vis', 'mmdet.models.task_modules.tracking', 'mmdet.models.detectors.d2_wrapper',
    'mmdet.models.detectors.ddq_detr',
    'mmdet.models.detectors.glip', 'mmdet.models.detectors.grounding_dino', 'mmdet.models.detectors.kd_one_stage',
    'mmdet.models.detectors.lad', 'mmdet.models.dense_heads.atss_vlfusion_head',
    'mmdet.models.dense_heads.grounding_dino_head', 'mmseg.models.backbones.timm_backbone',
    'mmseg.models.backbones.vpd', 'mmseg.models.text_encoder', 'mmseg.models.segmentors.multimodal_encoder_decoder')

_MODELS = ('MODELS', 'TASK_UTILS')
# Registries for test data and metrics, with their allowed types (None: all types). These types read only the data and
# write no files.
_DATA_TYPES: dict[str, tuple[str, ...] | None] = {
    'DATASETS': None, 'TRANSFORMS': (*_TRANSFORMS, 'ColorReader', 'BandReader', 'ArrayReader', 'TiffReader'),
    'METRICS': ('CocoMetric', 'LVISMetric', 'IoUMetric', 'VOCMetric', 'TopKAccuracy', 'CrossEntropy'),
    'LOOPS': ('TestLoop', 'KNNLoop'), 'DATA_SAMPLERS': ('DefaultSampler', 'PretrainSampler'),
    'FUNCTIONS': ('pseudo_collate', 'default_collate', 'as_is')}
# Keys of test data and metrics that are not copied: other storage than folders, files that are written, and files that
# replace the data.
_NO_DATA = ('backend_args', 'file_client_args', 'outfile_prefix', 'format_only', 'output_dir', 'proposal_file',
            'serialize_data', 'indices')
# Suffixes of files that can contain code.
_CODE = ('.pkl', '.pickle', '.npy', '.npz', '.py', '.pth', '.pt')
# Placeholder for the folder of the data. The folder itself is passed by the user.
DATA_ROOT = 'DATA_ROOT'


def _is_timm_name(text: str) -> bool:
    """True if a string is a timm model name, such as 'vit_small_patch14_dinov2.lvd142m', and not a path."""
    return bool(re.fullmatch(r'\w+(\.\w+)?', text)) and not Path(text).exists()


class EmbeddedConfigError(CheckpointError):
    """The config in a checkpoint is missing, or has a type or value that is not allowed."""


def safe_config(content: object, path: str | Path, *, with_data: bool = False) -> Config:
    """Returns the parts of the config in a checkpoint that a prediction needs.

    These are the model, the test pipeline, and the settings of test-time augmentation. mmdet or mmseg is imported if it
    is the default scope. The result has no `init_cfg`, no paths and no URLs, and all its types are registered.

    Args:
        content: content of the checkpoint, as `read_content` returns it.
        path: path of the checkpoint, for messages.
        with_data: True to include the test data and the metrics. The paths of the data then start with `DATA_ROOT`.

    Raises:
        EmbeddedConfigError: the checkpoint has no config with a model, or the config has a value that is not allowed.
    """
    cfg = config_in(content)
    if not isinstance(cfg.get('model'), dict):
        raise EmbeddedConfigError(f'{path} has no config with a model that can be read without executing it: pass '
                                  'the config of its training before the checkpoint')
    scope = cfg.get('default_scope') or 'mmengine'
    if scope not in SCOPES:
        raise EmbeddedConfigError(f'{path}: its config has default_scope={scope!r:.100}, expected one of '
                                  f'{", ".join(SCOPES)}')
    checker = _Checker(path, scope)
    checker.import_parts(cfg)
    safe: dict[str, Any] = dict(default_scope=scope, model=checker.model(cfg['model'], 'model'))
    if 'tta_model' in cfg:
        safe['tta_model'] = checker.model(cfg['tta_model'], 'tta_model')
    if 'tta_pipeline' in cfg:
        safe['tta_pipeline'] = checker.pipeline(cfg['tta_pipeline'], 'tta_pipeline')
    if 'tta' in cfg:
        safe['tta'] = checker.plain(cfg['tta'], 'tta')
    if with_data:
        safe |= checker.data(cfg)
        config = Config(safe)
        if isinstance(config.get('data_root'), str):
            replace_data_root(config, DATA_ROOT)
        checker.check_paths(config)
        return config
    loader = cfg.get('test_dataloader') or cfg.get('val_dataloader') or {}
    dataset = loader.get('dataset') if isinstance(loader, dict) else None
    if isinstance(dataset, dict):
        safe['test_dataloader'] = dict(dataset=checker.dataset(dataset, 'test_dataloader.dataset'))
    train = cfg.get('train_dataloader')
    data = train.get('dataset') if isinstance(train, dict) else None
    # A pretraining has no test data.
    if isinstance(data, dict) and (isinstance(data.get('reader'), dict) or 'scale' in data):
        safe['train_dataloader'] = dict(dataset=checker.pretraining_data(data, 'train_dataloader.dataset'))
    return Config(safe)


class _Checker:
    """Copies parts of a config and checks their values.

    Methods take a value and its key in the config, which is part of error messages. They raise EmbeddedConfigError for
    a value that is not allowed.

    Args:
        path: path of the checkpoint, for messages.
        scope: default scope of the config.
    """

    def __init__(self, path: str | Path, scope: str) -> None:
        self.path, self.scope = path, scope

    def import_parts(self, cfg: dict) -> None:
        """Imports our extensions of mmdet or mmseg if they are in `custom_imports` or belong to the default scope."""
        imports = cfg.get('custom_imports')
        names = imports.get('imports') if isinstance(imports, dict) else None
        names = names if isinstance(names, (list, tuple)) else [names]
        for scope, part in _OWN_PARTS.items():
            if scope == self.scope or part in names:
                importlib.import_module(part)

    def refuse(self, key: str, reason: str) -> EmbeddedConfigError:
        """Returns the error for a value that is not allowed."""
        return EmbeddedConfigError(
            f'{self.path}: its config is not used because {key} {reason}. The config in a checkpoint may only '
            'contain registered types and plain options. If you trust it, pass the config of the training before the '
            'checkpoint. If it uses your own types, import the module that registers them first')

    def model(self, node: Any, key: str) -> Any:
        """Copies a part of a model: dicts with registered types, numbers, and strings that match `_WORD`."""
        return self.built(node, key, _MODELS)

    def built(self, node: Any, key: str, families: tuple[str, ...]) -> Any:
        """Copies a value whose types must be in one of the registries `families`, such as 'MODELS'."""
        if isinstance(node, dict):
            copied = {}
            for name, value in node.items():
                if not isinstance(name, str):
                    raise self.refuse(f'{key}.{name!r:.50}', 'is not a name')
                inner = f'{key}.{name:.50}'
                if name in _DROPPED:
                    continue
                if name == 'type':
                    self.check_type(value, key, families)
                elif name == '_scope_':
                    if value not in SCOPES:
                        raise self.refuse(inner, f'is {value!r:.100}')
                elif name == 'name' and node.get('type') == 'mae_backbone.TimmViT':
                    value = self.plain(value, inner, allows=_is_timm_name)
                else:
                    value = self.built(value, inner, families)
                copied[name] = value
            return copied
        if isinstance(node, (list, tuple)):
            return type(node)(self.built(value, f'{key}[{i}]', families) for i, value in enumerate(node))
        return self.plain(node, key)

    def plain(self, node: Any, key: str, *, allows: Callable[[str], object] = _WORD.fullmatch) -> Any:
        """Copies numbers, None, and strings for which `allows` returns true, in nested dicts and lists."""
        if isinstance(node, dict):
            return {self.plain(name, key): self.plain(value, f'{key}.{name!s:.50}', allows=allows)
                    for name, value in node.items()}
        if isinstance(node, (list, tuple)):
            return type(node)(self.plain(value, f'{key}[{i}]', allows=allows) for i, value in enumerate(node))
        if node is None or isinstance(node, (bool, int, float)):
            return node
        if isinstance(node, str) and allows(node):
            return node
        raise self.refuse(key, f'is {node!r:.100}')

    def check_type(self, name: Any, key: str, families: tuple[str, ...]) -> None:
        """Raises an error for a type that is not registered or is in `_REFUSED_MODULES`."""
        ops = _OPS.get(key.rpartition('.')[2])
        if ops is not None:
            if name not in ops:
                raise self.refuse(key, f'has the type {name!r:.100}, expected {" or ".join(ops)}')
            return
        cls = self.registered(name, families)
        if cls is None:
            raise self.refuse(key, f'has the type {name!r:.100}, which is not registered')
        module = getattr(cls, '__module__', '')
        if module.startswith(_REFUSED_MODULES):
            raise self.refuse(key, f'has the type {name!r:.100}, which reads files or weights named in its options')

    def registered(self, name: Any, families: tuple[str, ...]) -> Any:
        """Returns the class or function of a type, or None if it is not registered.

        It is looked up in the same registries as in MMEngine, but a dotted name is never imported.
        """
        if not isinstance(name, str) or not re.fullmatch(r'(\w+\.)?\w+', name):
            return None
        scope, _, member = name.rpartition('.')
        if scope and scope not in SCOPES:
            return None
        for family in families:
            node = _node(family, scope or self.scope)
            while node is not None:
                if member in node._module_dict:
                    return node._module_dict[member]
                node = node.parent
        return None

    def pipeline(self, steps: Any, key: str) -> Any:
        """Copies a test pipeline. Its transforms must be in `_TRANSFORMS`."""
        if isinstance(steps, (list, tuple)):
            return [self.pipeline(step, f'{key}[{i}]') for i, step in enumerate(steps)]
        if not isinstance(steps, dict) or str(steps.get('type')).rpartition('.')[2] not in _TRANSFORMS:
            raise self.refuse(key, f'is {steps!r:.100}, expected one of the transforms {", ".join(_TRANSFORMS)}')
        self.check_type(steps['type'], key, ('TRANSFORMS',))
        options: dict[str, Any] = {}
        for name, value in steps.items():
            inner = f'{key}.{name!s:.50}'
            if name == 'transforms':
                options[name] = self.pipeline(value, inner)
            elif name == 'reader' and isinstance(value, dict):
                options[name] = self.built(value, inner, ('TRANSFORMS',))
            elif name not in ('type', 'backend_args', 'file_client_args'):
                options[name] = self.plain(value, inner)
        return {'type': steps['type'], **options}

    def dataset(self, node: dict, key: str) -> dict:
        """Copies type, classes, image size, reader and pipeline of the innermost data set, but no paths."""
        for name in ('dataset', 'datasets'):
            inner = node.get(name)
            inner = inner[0] if isinstance(inner, (list, tuple)) and inner else inner
            if isinstance(inner, dict):
                return self.dataset(inner, f'{key}.{name}')
        self.check_type(node.get('type'), key, ('DATASETS',))
        kept: dict[str, Any] = {'type': node['type']}
        if 'pipeline' in node:
            kept['pipeline'] = self.pipeline(node['pipeline'], f'{key}.pipeline')
        if isinstance(node.get('reader'), dict):
            kept['reader'] = self.built(node['reader'], f'{key}.reader', ('TRANSFORMS',))
        for name in ('image_size', 'augment'):
            if name in node:
                kept[name] = self.plain(node[name], f'{key}.{name}')
        meta = node.get('metainfo')
        classes = meta.get('classes') if isinstance(meta, dict) else node.get('classes')
        if isinstance(classes, (list, tuple)):  # a string would be the path of a file
            kept['metainfo'] = {'classes': tuple(map(str, classes))}
        return kept

    def pretraining_data(self, dataset: dict, key: str) -> dict[str, Any]:
        """Copies the type of a data set, the reader of its images and the scale of its crops."""
        self.check_type(dataset.get('type'), key, ('DATASETS',))
        kept = dict(type=dataset['type'])
        if isinstance(dataset.get('reader'), dict):
            kept['reader'] = self.built(dataset['reader'], f'{key}.reader', ('TRANSFORMS',))
        scale = dataset.get('scale')
        if isinstance(scale, (list, tuple)) and len(scale) == 2 and all(
                isinstance(value, (int, float)) and 0 < value <= 1 for value in scale):
            kept['scale'] = tuple(scale)
        return kept

    def data(self, cfg: dict) -> dict[str, Any]:
        """Copies the test data, the metrics and the test loop of a config. Call `check_paths` for their paths."""
        keys = [key for key in ('test_dataloader', 'test_evaluator', 'test_cfg') if cfg.get(key) is not None]
        kept = {key: self.data_part(cfg[key], key) for key in keys}
        roots = [node['data_root'] for node in dicts_in(kept) if node.get('data_root')]
        root = cfg.get('data_root') if isinstance(cfg.get('data_root'), str) else next(iter(roots), '')
        pattern = cfg.get('group_pattern')
        return kept | ({'data_root': root} if root else {}) | (
            {'group_pattern': pattern} if isinstance(pattern, str) else {})

    def data_part(self, node: Any, key: str) -> Any:
        """Copies a part of the test data: dicts with types in `_DATA_TYPES`, numbers, and strings (`_is_inside`)."""
        if isinstance(node, dict):
            if 'type' in node:
                self.check_data_type(node['type'], key)
            if isinstance(node.get('classes'), str):
                raise self.refuse(f'{key}.classes', 'is a string, expected a list of names')
            return {self.plain(name, key): value if name == 'type' else self.data_part(value, f'{key}.{name!s:.50}')
                    for name, value in node.items() if name not in _NO_DATA}
        if isinstance(node, (list, tuple)):
            return type(node)(self.data_part(value, f'{key}[{i}]') for i, value in enumerate(node))
        if isinstance(node, str) and is_written(node):
            return f'{UNKNOWN_FOLDER}/{Path(node).name}'  # a converted file in the cache, which is written again
        in_classes = re.search(r'\.classes\[\d+\]$', key)
        return self.plain(node, key, allows=(lambda text: True) if in_classes else _is_inside)

    def check_data_type(self, name: Any, key: str) -> None:
        """Raises an error for a type that is not in `_DATA_TYPES` or not registered."""
        for family, names in _DATA_TYPES.items():
            if (names is None or str(name).rpartition('.')[2] in names) and self.registered(name, (family,)):
                return
        raise self.refuse(key, f'has the type {name!r:.100}, which is not a known type for reading or evaluating data')

    def check_paths(self, cfg: Config) -> None:
        """Raises an error for absolute paths. Paths inside the data root already start with `DATA_ROOT`."""
        for key in ('test_dataloader', 'test_evaluator', 'test_cfg'):
            for node in dicts_in(cfg.get(key)):
                for name, value in node.items():
                    for text in value if isinstance(value, (list, tuple)) else [value]:
                        if name not in ('classes', 'type') and isinstance(text, str) and is_abs(text):
                            raise self.refuse(f'{key}: {name}', f'is {text!r:.100}, outside of the data root')


def _is_inside(text: str) -> bool:
    """True if a string is not a URL, not a file that can contain code, and has no '..'."""
    if text == '.npy':  # suffix of image files, which our reader reads without unpickling
        return True
    return not ('://' in text or '..' in re.split(r'[/\\]', text) or text.lower().endswith(_CODE) or '\0' in text)


def _node(family: str, scope: str) -> Any:
    """Returns the registry of a scope, with its modules imported, or MMEngine's registry if the scope has none."""
    root = getattr(mmengine.registry, family)
    if scope not in ('mmengine', root.scope):
        importlib.import_module(f'{scope}.registry')  # one of SCOPES
        root = root.children.get(scope, root)
    root.import_from_location()
    return root
