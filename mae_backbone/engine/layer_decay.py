"""Learning rates that shrink towards the first layer of a ViT: one optimizer constructor for all tasks."""
import logging
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.logging import MMLogger, print_log
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn
from torch.optim import Optimizer

from mae_backbone.registry import OPTIM_WRAPPER_CONSTRUCTORS

# What mmengine's DefaultOptimWrapperConstructor reads (it passes over any other key without a word), and our own.
PARAMWISE_KEYS = ('bias_decay_mult', 'bias_lr_mult', 'bypass_duplicate', 'custom_keys', 'dcn_offset_lr_mult',
                  'dwconv_decay_mult', 'flat_decay_mult', 'layer_decay', 'norm_decay_mult')
TAIL = ('norm', 'fc_norm', 'head', 'rel_pos_bias')  # of a ViT, after its blocks; the last as in BEiT's code


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayConstructor(DefaultOptimWrapperConstructor):
    """mmengine's default constructor, with `layer_decay` as one more key of `paramwise_cfg`.

    The lr of a parameter is what the other keys make it, times layer_decay ** (depth + 1 - layer_id), see `layer_id`.
    The other keys keep their meaning; note that a parameter that matches one of `custom_keys` skips the rules for
    norms, biases and 1-D parameters, and that of several matching keys the longest counts. Frozen parameters are left
    out of the optimizer. Parameters of equal settings share a group: few large groups keep foreach and fused
    optimizers fast.

    MAE fine-tuning (facebookresearch/mae util/lr_decay.py; L and H have .75), nothing 1-D decays::

        paramwise_cfg=dict(layer_decay=.65, flat_decay_mult=0.,
                           custom_keys={'pos_embed': dict(decay_mult=0.), 'cls_token': dict(decay_mult=0.)})

    Under FSDP, where every shard is 1-D, write norm_decay_mult=0. and bias_decay_mult=0. for flat_decay_mult=0.; it
    is the same for a ViT.

    ViTDet (detectron2 projects/ViTDet; L has .8, and H .9 with everything decayed): the norms of the ViT do not decay;
    biases, tables of relative positions and the channel-first norms of pyramid and heads do. timm's LayerNorm2d is a
    LayerNorm to mmengine, so those places are named::

        paramwise_cfg=dict(layer_decay=.7, norm_decay_mult=0., custom_keys={
            'pos_embed': dict(decay_mult=0.), 'neck': dict(), 'roi_head': dict()})

    Args:
        optim_wrapper_cfg: as mmengine has it; optimizer.lr is the lr of the head.
        paramwise_cfg: mmengine's keys and `layer_decay`, in (0, 1], 1 by default.

    Raises:
        ValueError: a key that nothing reads, a `layer_decay` out of range or without an lr, no or several ViTs in the
            model, a parameter of the ViT whose layer is not known, or a shared parameter without bypass_duplicate.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        # Never empty: for an empty paramwise_cfg mmengine takes all parameters, frozen ones too.
        super().__init__(optim_wrapper_cfg, {'layer_decay': 1.0, **(paramwise_cfg or {})})

    def _validate_cfg(self) -> None:
        super()._validate_cfg()
        unknown = sorted(set(self.paramwise_cfg) - set(PARAMWISE_KEYS))
        if unknown:
            raise ValueError(f'paramwise_cfg holds {", ".join(unknown)}, which nothing reads: '
                             f'the keys are {", ".join(PARAMWISE_KEYS)}')
        decay = self.paramwise_cfg['layer_decay']
        if not 0 < decay <= 1:
            raise ValueError(f'layer_decay={decay}, wanted a number in (0, 1]: 1 for the same lr in all layers')
        if self.base_lr is None:
            raise ValueError('the optimizer has no lr, which is the lr of the head that layers scale: '
                             'write optimizer=dict(type=..., lr=...)')
        if 'flat_decay_mult' in self.paramwise_cfg and self.base_wd is None:
            raise ValueError('flat_decay_mult has no weight_decay to scale: '
                             'write optimizer=dict(type=..., weight_decay=...)')

    def add_params(self, params: list[dict], module: nn.Module, prefix: str = '',
                   is_dcn_module: int | float | None = None) -> None:
        """Adds the groups of `module` to `params`, merged and scaled once the recursion is back at the model."""
        if prefix:
            super().add_params(params, module, prefix, is_dcn_module)
            return
        self._refuse_shards(module)
        with _without_details():
            super().add_params(params, module, prefix, is_dcn_module)
        names = {id(parameter): name for name, parameter in module.named_parameters()}
        _refuse_duplicates(params, names)
        params[:] = _merge(params, self._settings(module, params))
        self._report(params, names, module)

    def _settings(self, model: nn.Module, groups: list[dict]) -> list[dict]:
        """The options of each one-parameter group, its lr scaled by its layer."""
        scales = layer_scales(model, self.paramwise_cfg['layer_decay'])
        settings = []
        for group in groups:
            # mmengine copies the multipliers into the group, after it has used them
            options = {key: value for key, value in group.items() if key not in ('params', 'lr_mult', 'decay_mult')}
            options['lr'] = options.get('lr', self.base_lr) * scales.get(id(group['params'][0]), 1.0)
            if self.base_wd is not None:
                options.setdefault('weight_decay', self.base_wd)
            settings.append(options)
        return settings

    def _refuse_shards(self, model: nn.Module) -> None:
        if 'flat_decay_mult' in self.paramwise_cfg and all(p.ndim == 1 for p in model.parameters()):
            raise ValueError('flat_decay_mult would hit every parameter: all are 1-D, as FSDP keeps its shards. '
                             'Set norm_decay_mult and bias_decay_mult instead')

    def _report(self, groups: list[dict], names: dict[int, str], model: nn.Module) -> None:
        """Logs one line per group, and what a config may have missed."""
        lines = [f'layer_decay={self.paramwise_cfg["layer_decay"]}: {len(groups)} parameter groups']
        for group in groups:
            parameters = group['params']
            lines.append(f'lr x {group["lr"] / self.base_lr:<8.3g} '
                         f'weight decay {group.get("weight_decay", "of the optimizer")!s:<6} '
                         f'{len(parameters):4} tensors, {sum(p.numel() for p in parameters):11,} parameters, '
                         f'as {names[id(parameters[0])]}')
        frozen = [p for p in model.parameters() if not p.requires_grad]
        if frozen:
            lines.append(f'frozen: {len(frozen)} tensors, {sum(p.numel() for p in frozen):,} parameters')
        print_log('\n    '.join(lines), logger='current')
        for key in self.paramwise_cfg.get('custom_keys', ()):
            if not any(key in name for name in names.values()):
                print_log(f'custom_keys: no parameter has {key!r} in its name', logger='current', level=logging.WARNING)


def layer_id(name: str, *, depth: int, prefix: str) -> int:
    """The layer of a parameter, from 0 (patch and position embedding, tokens) over i + 1 (block i) to depth + 1.

    Everything outside the ViT, its final norm and head, and residual convolutions within its blocks are of the top
    layer, depth + 1 (the latter as in detectron2 modeling/backbone/vit.py).

    Args:
        name: of the parameter in the whole model.
        depth: number of blocks of the ViT.
        prefix: what the names of the ViT's parameters start with, '' or with a dot at its end.

    Raises:
        ValueError: the parameter is the ViT's, but none of its known parts.
    """
    if not name.startswith(prefix):
        return depth + 1
    part, _, rest = name[len(prefix):].partition('.')
    if part in ('patch_embed', 'pos_embed') or part.endswith('_token'):
        return 0
    if part in TAIL:
        return depth + 1
    block = re.match(r'(\d+)\.', rest)
    if part != 'blocks' or block is None or int(block[1]) >= depth:
        raise ValueError(f'{name} is in the ViT {prefix!r} with {depth} blocks, but its layer is not known: wanted '
                         f'patch_embed, pos_embed, *_token, blocks.0 to blocks.{depth - 1}, {", ".join(TAIL)}. '
                         'Rename it, or move it out of the ViT')
    return depth + 1 if '.residual.' in rest else int(block[1]) + 1


def layer_scales(model: nn.Module, decay: float) -> dict[int, float]:
    """id of each trained parameter of the one ViT in `model` -> factor of its lr; all others have 1.

    Raises:
        ValueError: no ViT, several ones, or one with a parameter whose layer is not known.
    """
    if decay == 1:
        return {}
    name, vit = _find_vit(model)
    # Names from the ViT itself: FSDP strips its wrappers from those of the whole model, but not from its modules'.
    prefix, depth = (f'{name}.' if name else ''), len(vit.blocks)
    return {id(parameter): decay ** (depth + 1 - layer_id(prefix + name, depth=depth, prefix=prefix))
            for name, parameter in vit.named_parameters() if parameter.requires_grad}


def parameter_table(model: nn.Module, optimizer: Optimizer | OptimWrapper) -> dict[str, tuple[float, float]]:
    """Name of each parameter in the optimizer -> (initial lr / lr of the optimizer, weight decay)."""
    base = optimizer.defaults['lr']
    settings = {id(parameter): (group.get('initial_lr', group['lr']) / base, group.get('weight_decay', 0.0))
                for group in optimizer.param_groups for parameter in group['params']}
    return {name: settings[id(parameter)] for name, parameter in model.named_parameters() if id(parameter) in settings}


def _find_vit(model: nn.Module) -> tuple[str, nn.Module]:
    """Name and module of the one ViT: what has `patch_embed` and a list of `blocks` as children of its own."""
    found = []
    for name, module in model.named_modules():
        parts = dict(module.named_children())  # not hasattr: FSDP wrappers show the attributes of what they wrap
        if 'patch_embed' in parts and isinstance(parts.get('blocks'), nn.ModuleList | nn.Sequential):
            found.append((name, module))
    if len(found) != 1:
        names = ', '.join(repr(name) for name, _ in found) or 'none'
        raise ValueError(f'layer_decay wants one ViT (a module with `patch_embed` and a list of `blocks`) in '
                         f'{type(model).__name__}, found {names}: leave layer_decay out, or build a model with one')
    return found[0]


def _merge(groups: list[dict], settings: list[dict]) -> list[dict]:
    """One-parameter groups and the settings of each -> one group per distinct setting, in the order of the model."""
    merged: list[tuple[dict, list]] = []
    for group, options in zip(groups, settings, strict=True):
        same = next((parameters for other, parameters in merged if other == options), None)
        if same is None:
            merged.append((options, same := []))
        same.extend(group['params'])
    return [{'params': parameters, **options} for options, parameters in merged]


def _refuse_duplicates(groups: list[dict], names: dict[int, str]) -> None:
    counts = Counter(id(group['params'][0]) for group in groups)
    shared = sorted(names[key] for key, count in counts.items() if count > 1)
    if shared:
        raise ValueError(f'several modules share {", ".join(shared)}: set bypass_duplicate=True in paramwise_cfg, '
                         'the settings at its first place then count')


@contextmanager
def _without_details() -> Iterator[None]:
    """Keeps mmengine's lines per parameter out of the log: `_report` says it shorter, and with the final lr."""
    def keep(record: logging.LogRecord) -> bool:
        return not re.match(r'paramwise_options -- |.* is skipped since its requires_grad=', record.getMessage())

    logger = MMLogger.get_current_instance()
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)
