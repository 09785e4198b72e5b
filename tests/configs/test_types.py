"""Types and arguments in the files of configs/: each is registered, models, transforms and hooks accept theirs."""
import inspect
from collections.abc import Callable, Iterator

import pytest
from helpers.config_files import CONFIGS, DETECTION, FINETUNE, KNN, PRETRAIN, SEGMENTATION, load, model_of, read, scope
from mmengine import registry
from mmengine.config import Config
from torch.utils.data import DataLoader

from mae_backbone.cli.check_settings import check_settings

every_config = pytest.mark.parametrize('file', CONFIGS)


def finder(name: str) -> Callable[[str], object]:
    """A function that looks up a type in a registry as the Runner does, starting at the scope of the config."""
    def find(key: str) -> object:
        with getattr(registry, name).switch_scope_and_registry(None) as node:
            return node.get(key)
    return find


def find_op(key: str) -> object:
    """mmdet takes NMS and RoI layers from mmcv, not from a registry."""
    from mmcv import ops
    return getattr(ops, key, None)


# Top-level key of a config -> registry of the types below it, down to a key that has its own registry.
TOP_REGISTRIES = {
    'model': finder('MODELS'), 'train_dataloader': None, 'val_dataloader': None, 'test_dataloader': None,
    'train_cfg': finder('LOOPS'), 'val_cfg': finder('LOOPS'), 'test_cfg': finder('LOOPS'),
    'val_evaluator': finder('METRICS'), 'test_evaluator': finder('METRICS'), 'optim_wrapper': finder('OPTIM_WRAPPERS'),
    'param_scheduler': finder('PARAM_SCHEDULERS'), 'default_hooks': finder('HOOKS'), 'custom_hooks': finder('HOOKS'),
    'visualizer': finder('VISUALIZERS'), 'log_processor': finder('LOG_PROCESSORS'),
}
NESTED_REGISTRIES = {
    'dataset': finder('DATASETS'), 'pipeline': finder('TRANSFORMS'), 'sampler': finder('DATA_SAMPLERS'),
    'batch_sampler': finder('DATA_SAMPLERS'), 'collate_fn': finder('FUNCTIONS'), 'reader': finder('TRANSFORMS'),
    'optimizer': finder('OPTIMIZERS'),
    'constructor': finder('OPTIM_WRAPPER_CONSTRUCTORS'), 'vis_backends': finder('VISBACKENDS'),
}
MODEL_REGISTRIES = {
    'assigner': finder('TASK_UTILS'), 'sampler': finder('TASK_UTILS'), 'bbox_coder': finder('TASK_UTILS'),
    'anchor_generator': finder('TASK_UTILS'), 'init_cfg': finder('WEIGHT_INITIALIZERS'), 'nms': find_op,
    'roi_layer': find_op,
}


def unresolved(node: object, find: Callable | None, registries: dict, path: str = '') -> Iterator[str]:
    """Paths of all types in `node` that are not in the registry where they are looked up."""
    if isinstance(node, dict):
        if 'type' in node and find(node['type']) is None:
            yield f'{path}.type = {node["type"]}'
        for key, value in node.items():
            find_below = registries.get(key, find)
            if key == 'constructor' and find_below(value) is None:
                yield f'{path}.{key} = {value}'
            yield from unresolved(value, find_below, registries, f'{path}.{key}')
    elif isinstance(node, list | tuple):
        for i, value in enumerate(node):
            yield from unresolved(value, find, registries, f'{path}.{i}')


def unresolved_types(cfg: Config) -> list[str]:
    with scope(cfg):
        return [line for key, find in TOP_REGISTRIES.items() if key in cfg
                for line in unresolved(cfg[key], find, MODEL_REGISTRIES if key == 'model' else NESTED_REGISTRIES, key)]


@every_config
def test_every_type_is_registered(file: str):
    assert unresolved_types(read(file)) == []


@pytest.mark.parametrize(('file', 'key'), [
    (DETECTION, 'model.roi_head.bbox_head.loss_cls.type'), (DETECTION, 'model.train_cfg.rcnn.sampler.type'),
    (DETECTION, 'model.test_cfg.rcnn.nms.type'), (DETECTION, 'train_dataloader.dataset.pipeline.4.type'),
    (SEGMENTATION, 'model.neck.norm_cfg.type'), (SEGMENTATION, 'val_evaluator.type'),
    (KNN, 'test_cfg.bank.sampler.type'), (FINETUNE, 'optim_wrapper.constructor'),
    (PRETRAIN, 'custom_hooks.0.type'), (PRETRAIN, 'param_scheduler.1.type')])
def test_misspelled_types_are_detected(file: str, key: str):
    cfg = load(file)
    cfg.merge_from_dict({key: 'Misspelled'})
    assert f'{key} = Misspelled' in unresolved_types(cfg)


@every_config
def test_models_transforms_and_hooks_accept_their_arguments(file: str):
    assert sum(p.numel() for p in model_of(file).parameters()) > 0
    cfg = load(file)
    with scope(cfg):
        for transform in pipelines(cfg):
            assert callable(registry.TRANSFORMS.build(transform))
        hooks = [hook for name, hook in cfg.default_hooks.items() if name != 'visualization']  # needs a run
        for hook in [*hooks, *cfg.get('custom_hooks', [])]:
            assert registry.HOOKS.build(hook).priority
        for key in ('train_cfg', 'val_cfg', 'test_cfg'):
            loop = cfg.get(key) or {}
            accepted = {*loop}
            if 'type' in loop:
                accepted = {'by_epoch', *inspect.signature(TOP_REGISTRIES[key](loop.type)).parameters}
            assert {*loop} - {'type', '_scope_'} <= accepted  # _scope_: set in configs inherited from mmdet
    loader = {*inspect.signature(DataLoader).parameters}
    assert all({*(cfg.get(f'{stage}_dataloader') or {})} <= loader for stage in ('train', 'val', 'test'))


def pipelines(node: object) -> Iterator[dict]:
    """The transforms of every `pipeline` in a config."""
    if isinstance(node, dict):
        yield from node.get('pipeline', [])
        for value in node.values():
            yield from pipelines(value)


@every_config
def test_numbers_are_in_their_ranges(file: str):
    check_settings(read(file))
