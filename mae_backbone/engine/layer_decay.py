"""Layer-wise learning rate decay for a ViT: one optimizer constructor for all tasks."""
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

# Keys that mmengine's DefaultOptimWrapperConstructor reads (it silently ignores any other key), and our own.
PARAMWISE_KEYS = ('bias_decay_mult', 'bias_lr_mult', 'bypass_duplicate', 'custom_keys', 'dcn_offset_lr_mult',
                  'dwconv_decay_mult', 'flat_decay_mult', 'layer_decay', 'no_decay_of_model', 'norm_decay_mult')
# Of a ViT, before its blocks: CLIP's norm of the embedding, and rotary positions that are trained.
STEM = ('patch_embed', 'pos_embed', 'norm_pre', 'rope')
# Of a ViT, after its blocks. rel_pos_bias as in BEiT's code; timm counts it to the embedding.
TAIL = ('norm', 'fc_norm', 'head', 'head_dist', 'attn_pool', 'neck', 'rel_pos_bias')


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayConstructor(DefaultOptimWrapperConstructor):
    """mmengine's default constructor, with the additional key `layer_decay` in `paramwise_cfg`.

    The learning rate of a parameter, as the other keys set it, is multiplied by
    layer_decay ** (depth + 1 - layer_id), see `layer_id`. A parameter that matches one of `custom_keys` skips the rules
    for norms, biases and 1-D parameters; if several keys match, the longest counts. Frozen parameters are left out of
    the optimizer. Parameters with equal settings share a group: few large groups keep foreach and fused optimizers
    fast.

    MAE fine-tuning (facebookresearch/mae util/lr_decay.py; L and H have .75), no 1-D parameter decays::

        paramwise_cfg=dict(layer_decay=.65, flat_decay_mult=0.,
                           custom_keys={'pos_embed': dict(decay_mult=0.), 'cls_token': dict(decay_mult=0.)})

    Under FSDP1, all shards are 1-D. Write norm_decay_mult=0. and bias_decay_mult=0. instead of
    flat_decay_mult=0. For a ViT both are equivalent.

    ViTDet (detectron2 projects/ViTDet; L has .8, and H .9 with everything decayed): the norms of the ViT do not decay,
    but biases, tables of relative positions and the channel-first norms of pyramid and heads do. mmengine takes timm's
    LayerNorm2d for a LayerNorm, so the modules with these norms are exempted by name::

        paramwise_cfg=dict(layer_decay=.7, norm_decay_mult=0., custom_keys={
            'pos_embed': dict(decay_mult=0.), 'neck': dict(), 'roi_head': dict()})

    A model of timm (`mae_backbone.TimmViT`) states by itself which parameters do not decay: positions, class and
    register tokens, tables of relative positions. With no_decay_of_model=True they have a weight decay of 0, except
    parameters that match one of `custom_keys`::

        paramwise_cfg=dict(layer_decay=.65, flat_decay_mult=0., no_decay_of_model=True)

    Args:
        optim_wrapper_cfg: as in mmengine; optimizer.lr is the learning rate of the head.
        paramwise_cfg: mmengine's keys; `layer_decay`, in (0, 1], 1 by default; `no_decay_of_model`, False by default.

    Raises:
        ValueError: an unknown key, a `layer_decay` out of range or without a learning rate, no or several ViTs in the
            model, a parameter of the ViT in an unknown layer, a shared parameter without bypass_duplicate, or
            `no_decay_of_model` for a model that names none.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        # Never empty: with an empty paramwise_cfg mmengine takes all parameters, frozen ones included.
        super().__init__(optim_wrapper_cfg, {'layer_decay': 1.0, **(paramwise_cfg or {})})

    def _validate_cfg(self) -> None:
        super()._validate_cfg()
        unknown = sorted(set(self.paramwise_cfg) - set(PARAMWISE_KEYS))
        if unknown:
            raise ValueError(f'paramwise_cfg contains {", ".join(unknown)}, which is not used: '
                             f'the keys are {", ".join(PARAMWISE_KEYS)}')
        decay = self.paramwise_cfg['layer_decay']
        if not 0 < decay <= 1:
            raise ValueError(f'layer_decay={decay}, expected a number in (0, 1]: 1 for the same lr in all layers')
        if self.base_lr is None:
            raise ValueError('the optimizer has no lr, which is the lr of the head that layers scale: '
                             'write optimizer=dict(type=..., lr=...)')
        if 'flat_decay_mult' in self.paramwise_cfg and self.base_wd is None:
            raise ValueError('flat_decay_mult has no weight_decay to scale: '
                             'write optimizer=dict(type=..., weight_decay=...)')

    def add_params(self, params: list[dict], module: nn.Module, prefix: str = '',
                   is_dcn_module: int | float | None = None) -> None:
        """Adds the groups of `module` to `params`; merges and scales them once the recursion is back at the model."""
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
        """The options of each one-parameter group, with its learning rate scaled by its layer."""
        scales = layer_scales(model, self.paramwise_cfg['layer_decay'])
        base_lr: float = self.base_lr  # _validate_cfg refuses None
        undecayed = self._undecayed(model)
        settings = []
        for group in groups:
            # mmengine leaves the multipliers, which it has already applied, in the group.
            options = {key: value for key, value in group.items() if key not in ('params', 'lr_mult', 'decay_mult')}
            options['lr'] = options.get('lr', base_lr) * scales.get(id(group['params'][0]), 1.0)
            if self.base_wd is not None:
                options.setdefault('weight_decay', self.base_wd)
            if id(group['params'][0]) in undecayed:
                options['weight_decay'] = 0.0
            settings.append(options)
        return settings

    def _undecayed(self, model: nn.Module) -> set[int]:
        """ids of the parameters in `no_weight_decay` of a module, without the parameters of `custom_keys`."""
        if not self.paramwise_cfg.get('no_decay_of_model'):
            return set()
        stated = {f'{name}.{parameter}' if name else parameter for name, module in model.named_modules()
                  if callable(getattr(module, 'no_weight_decay', None)) for parameter in module.no_weight_decay()}
        keys = self.paramwise_cfg.get('custom_keys', {})
        names = {name: id(parameter) for name, parameter in model.named_parameters()}
        if not stated & names.keys():
            raise ValueError('no_decay_of_model=True, but no module of the model states which parameters do not decay '
                             '(no_weight_decay): leave the key out, and name the parameters in custom_keys')
        return {names[name] for name in stated & names.keys() if not any(key in name for key in keys)}

    def _refuse_shards(self, model: nn.Module) -> None:
        if 'flat_decay_mult' in self.paramwise_cfg and all(p.ndim == 1 for p in model.parameters()):
            raise ValueError('flat_decay_mult would apply to every parameter: all are 1-D, as the shards of FSDP1 are. '
                             'Set norm_decay_mult and bias_decay_mult instead')

    def _report(self, groups: list[dict], names: dict[int, str], model: nn.Module) -> None:
        """Logs one line per group, and `custom_keys` that match no parameter."""
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
    """The layer of a parameter: 0 for patch and position embedding and tokens, i + 1 for block i, depth + 1 for others.

    The final norm and the head of the ViT, everything outside of the ViT, and residual convolutions within its blocks
    have depth + 1 (the latter as in detectron2 modeling/backbone/vit.py).

    Args:
        name: name of the parameter in the whole model.
        depth: number of blocks of the ViT.
        prefix: prefix of the ViT's parameters, '' or with a dot at its end.

    Raises:
        ValueError: the parameter belongs to the ViT, but to none of its known modules.
    """
    if not name.startswith(prefix):
        return depth + 1
    part, _, rest = name[len(prefix):].partition('.')
    if part in STEM or part.endswith('_token'):
        return 0
    if part in TAIL:
        return depth + 1
    block = re.match(r'(\d+)\.', rest)
    if part != 'blocks' or block is None or int(block[1]) >= depth:
        raise ValueError(f'{name} is in the ViT {prefix!r} with {depth} blocks, but its layer is not known: expected '
                         f'{", ".join(STEM)}, *_token, blocks.0 to blocks.{depth - 1}, {", ".join(TAIL)}. '
                         'Rename it, or move it out of the ViT')
    return depth + 1 if '.residual.' in rest else int(block[1]) + 1


def layer_scales(model: nn.Module, decay: float) -> dict[int, float]:
    """id of each trained parameter of the one ViT in `model` -> factor of its learning rate; all others have 1.

    Raises:
        ValueError: there is no ViT, or several, or one with a parameter in an unknown layer.
    """
    if decay == 1:
        return {}
    name, vit = _find_vit(model)
    # Names relative to the ViT: FSDP1 removes its wrappers from parameter names of the whole model, but not from module
    # names.
    blocks = vit.get_submodule('blocks')
    assert isinstance(blocks, nn.ModuleList | nn.Sequential)
    prefix, depth = (f'{name}.' if name else ''), len(blocks)
    return {id(parameter): decay ** (depth + 1 - layer_id(prefix + name, depth=depth, prefix=prefix))
            for name, parameter in vit.named_parameters() if parameter.requires_grad}


def parameter_table(model: nn.Module, optimizer: Optimizer | OptimWrapper) -> dict[str, tuple[float, float]]:
    """Name of each parameter in the optimizer -> (initial learning rate / optimizer's learning rate, weight decay)."""
    base = optimizer.defaults['lr']
    settings = {id(parameter): (group.get('initial_lr', group['lr']) / base, group.get('weight_decay', 0.0))
                for group in optimizer.param_groups for parameter in group['params']}
    return {name: settings[id(parameter)] for name, parameter in model.named_parameters() if id(parameter) in settings}


def _find_vit(model: nn.Module) -> tuple[str, nn.Module]:
    """Name and module of the one ViT: a module that has `patch_embed` and a list of `blocks` as direct children."""
    candidates = []
    for name, module in model.named_modules():
        children = dict(module.named_children())  # not hasattr: FSDP wrappers show the attributes of what they wrap
        if 'patch_embed' in children and isinstance(children.get('blocks'), nn.ModuleList | nn.Sequential):
            candidates.append((name, module))
    if len(candidates) != 1:
        names = ', '.join(repr(name) for name, _ in candidates) or 'none'
        raise ValueError(f'layer_decay needs exactly one ViT (a module with `patch_embed` and a list of `blocks`) in '
                         f'{type(model).__name__}, but there are: {names}. Leave layer_decay out, or build a model '
                         'with one ViT')
    return candidates[0]


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
    """Keeps mmengine's line per parameter out of the log; `_report` has a line per group, with the final rates."""
    def keep(record: logging.LogRecord) -> bool:
        return not re.match(r'paramwise_options -- |.* is skipped since its requires_grad=', record.getMessage())

    logger = MMLogger.get_current_instance()
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)
