"""Vision Transformers of timm as backbones: DINOv2, DINOv3, DeiT III, CLIP, SigLIP, EVA-02, BEiT, SAM and others."""
import difflib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models.beit import Beit
from torch import Tensor, nn

from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.checkpoints.timm_files import HEADS, folder_config, load_timm
from mae_backbone.core.beit_sizes import allow_any_size, beit_tokens
from mae_backbone.core.patches import grid_size
from mae_backbone.core.vit import Arch
from mae_backbone.registry import MODELS

DOWNLOAD = 'timm'  # checkpoint that timm downloads
FROM_FOLDER = 'folder'  # init_cfg: the weights in the folder that is named, if one is named


@MODELS.register_module()
class TimmViT(nn.Module):
    """A plain ViT of timm for dense tasks and classification: `type='mae_backbone.TimmViT'`.

    The model of timm is the attribute `vit`; outputs are from its `forward_intermediates`. Images may have any size
    with sides that are multiples of the patch size: positions are interpolated by timm (`dynamic_img_size`), and the
    relative positions of BEiT, which have a fixed size in timm, bicubically.

    Args:
        name: name of a model in `timm.list_models()`, such as 'vit_base_patch14_reg4_dinov2.lvd142m'; or a local hub
            folder with a `config.json`.
        image_size: (H, W) in pixels or one number, that positions are stored for; None: as the model of timm.
        out_indices: indices of the blocks that return a map, one each; -1 is the last block.
        final_norm: apply the last norm of the model to every map, as DINOv2's heads expect. A model that has no norm
            before its pooling (BEiT, EVA-02) is left as it is. In SAM it is the neck, with 256 channels.
        pooling: keep the pooling of the model, the norm after it and its neck, for `pooled`. A backbone for
            dense tasks has no use for them.
        frozen_stages: -1 trains everything; 0 freezes the embedding; k freezes the embedding and the first k blocks,
            and with all blocks what follows them. k + 0.5 also freezes the attention of the next block.
        checkpointing: recompute whole blocks in the backward pass instead of storing their activations.
        init_cfg: dict(type='Pretrained', checkpoint=PATH) loads a file or a local hub folder, see `load_timm`;
            checkpoint='timm' downloads the weights of `name` through timm. Nothing is downloaded otherwise. It may
            also have `weights_key`, the `key` of `load_timm`, and `heads`, the number of heads of the model. None
            loads nothing. By default it is `name` if that is a folder.
        options: further arguments of `timm.create_model`, such as drop_path_rate, in_chans, patch_size or depth.

    Attributes:
        vit: the model of timm.
        arch: width, depth and heads.
        patch_size: side of a patch in pixels, the stride of the maps.
        in_channels: C of the images.
        out_channels: channels of each map; the width D, and 256 of a SAM with `final_norm`.
        mean, std: for each channel, on the scale 0 to 255, of the pixels that the weights of `name` were trained with.

    Raises:
        ValueError: an unknown name, a model that is no plain ViT, an option out of its range, or one that timm refuses.
    """

    def __init__(self, name: str, *, image_size: int | Sequence[int] | None = None, out_indices: Sequence[int] = (-1,),
                 final_norm: bool = True, pooling: bool = False, frozen_stages: float = -1,
                 checkpointing: bool = False, init_cfg: dict | str | None = FROM_FOLDER, **options: Any) -> None:
        super().__init__()
        if image_size is not None:
            options['img_size'] = image_size
        self.name, self.final_norm, self.pooling = name, final_norm, pooling
        self.init_cfg = _pretrained(init_cfg, name)
        self._options = options
        self.vit = create_vit(name, options)
        self.arch = Arch(self.vit.embed_dim, len(self.vit.blocks), self.vit.blocks[0].attn.num_heads)
        self.patch_size, self.in_channels = self.vit.patch_embed.patch_size[0], self.vit.in_chans
        cfg = self.vit.pretrained_cfg
        self.mean, self.std = (tuple(round(255 * value, 3) for value in cfg[key]) for key in ('mean', 'std'))
        neck = 'num_chs_norm' if final_norm and hasattr(self.vit, 'neck') else 'num_chs'
        self.out_channels: int = self.vit.feature_info[-1][neck]
        depth = self.arch.depth
        if not out_indices or any(not -depth <= i < depth for i in out_indices):
            raise ValueError(f'out_indices={tuple(out_indices)}, the {depth} blocks are numbered from 0')
        self.out_indices = tuple(out_indices)
        if not pooling:
            self.drop_pooling()
        self.vit.set_grad_checkpointing(checkpointing)
        self.freeze(frozen_stages)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """images (B, C, H, W) -> maps (B, D, h, w), one for each block in `out_indices`."""
        return tuple(self.feature_maps(images, self.out_indices))

    def feature_maps(self, images: Tensor, out_indices: Sequence[int] = (-1,)) -> list[Tensor]:
        """images (B, C, H, W) -> maps (B, D, h, w), one for each block in `out_indices`, normed if `final_norm`.

        Raises:
            ValueError: a side of the images is not a multiple of the patch size, or the channels do not fit.
        """
        grid = self.check(images)
        wanted = [i % self.arch.depth for i in out_indices]
        indices = sorted(set(wanted))
        if isinstance(self.vit, Beit):
            tokens = beit_tokens(self.vit, images, indices, norm=self.final_norm)
            maps = [one[:, 1:].transpose(1, 2).unflatten(2, grid).contiguous() for one in tokens]
        else:
            maps = self.vit.forward_intermediates(images, indices=indices, norm=self.final_norm, stop_early=True,
                                                  intermediates_only=True)
        found = dict(zip(indices, maps, strict=True))
        return [found[i] for i in wanted]

    def tokens(self, images: Tensor) -> Tensor:
        """images (B, C, H, W) -> tokens (B, 1 + L, D) after the last block, normed if `final_norm`.

        The first is the class token. A model without one (SigLIP, SAM) has the feature that it pools itself there.
        Register tokens are left out, as their authors do (Darcet et al., ICLR 2024).

        Raises:
            ValueError: the model has no class token, and the backbone was built without `pooling`.
        """
        self.check(images)
        last = self.arch.depth - 1
        if isinstance(self.vit, Beit):
            return beit_tokens(self.vit, images, [last], norm=self.final_norm)[0]
        if self.cls_token is not None:
            (patches, prefix), = self.vit.forward_intermediates(
                images, indices=[last], norm=self.final_norm, return_prefix_tokens=True, output_fmt='NLC',
                intermediates_only=True)
            return torch.cat([prefix[:, :1], patches], dim=1)
        self._check_pooling()
        tokens, maps = self.vit.forward_intermediates(images, indices=[last], norm=self.final_norm)
        first = self.vit.forward_head(tokens, pre_logits=True)
        return torch.cat([first[:, None], maps[0].flatten(2).transpose(1, 2)], dim=1)

    def pooled(self, images: Tensor) -> Tensor:
        """images (B, C, H, W) -> features (B, F) as the model pools them itself; F is the width, and 256 of SAM.

        Equal to timm's model without its last layer (`num_classes=0`): the class token (DINOv2, DeiT III, CLIP), an
        attention pooling (SigLIP), the mean of the patches with a norm after it (BEiT, EVA-02).

        Raises:
            ValueError: the backbone was built without `pooling`.
        """
        self._check_pooling()
        self.check(images)
        if isinstance(self.vit, Beit):
            tokens = beit_tokens(self.vit, images, [self.arch.depth - 1], norm=True)[0]
        else:
            tokens = self.vit.forward_features(images)
        return self.vit.forward_head(tokens, pre_logits=True)

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) in patches that positions are stored for."""
        h, w = self.vit.patch_embed.grid_size
        return h, w

    @property
    def cls_token(self) -> nn.Parameter | None:
        """The class token (1, 1, D), if the model has one."""
        return getattr(self.vit, 'cls_token', None)

    @property
    def has_class_token(self) -> bool:
        """True if the model has a class token."""
        return self.cls_token is not None

    def check(self, images: Tensor) -> tuple[int, int]:
        """images (B, C, H, W) -> their grid (h, w). Raises ValueError if the images do not fit the model."""
        if images.ndim != 4 or images.shape[1] != self.in_channels:
            raise ValueError(f'images are {tuple(images.shape)}, expected (B, {self.in_channels}, H, W): '
                             'set in_chans of the backbone to the channels of your images')
        grid = grid_size((images.shape[2], images.shape[3]), self.patch_size)
        native = self.vit.patch_embed.img_size
        if getattr(self.vit.patch_embed, 'strict_img_size', False) and images.shape[2:] != native:
            raise ValueError(f'images are {images.shape[2]}x{images.shape[3]}, but {type(self.vit).__name__} of timm '
                             f'takes one size only: set image_size of the backbone to the size of the images')
        return grid

    def init_weights(self) -> None:
        """Loads the checkpoint of `init_cfg`; MMEngine's Runner calls it once before training."""
        if self.init_cfg is not None:
            heads = self.init_cfg.get('heads')
            if heads not in (None, self.arch.heads):
                raise CheckpointError(f'the weights have {heads} heads of attention, {self.name} has '
                                      f'{self.arch.heads}: name the model of timm that they belong to')
            self.load_weights(self.init_cfg['checkpoint'], key=self.init_cfg.get('weights_key'))

    def load_weights(self, path: str | Path, *, key: str | None = None) -> None:
        """Loads a file or a local hub folder (`load_timm`), or downloads the weights of `name` if `path` is 'timm'.

        Raises:
            FileNotFoundError: there is no such file or folder.
            CheckpointError: the file does not fit, or cannot be downloaded.
        """
        if str(path) != DOWNLOAD:
            load_timm(self.vit, path, key=key)
            return
        try:
            source = create_vit(self.name, self._options, pretrained=True)
        except (OSError, RuntimeError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise CheckpointError(f'the weights of {self.name} cannot be downloaded ({reason[:200]}): check the '
                                  "connection, or pass a file or a local folder as init_cfg's checkpoint") from error
        kept = self.vit.state_dict().keys()
        self.vit.load_state_dict({name: value for name, value in source.state_dict().items() if name in kept})
        logging.getLogger('mae_backbone').info(f'{self.name}: {len(kept)} tensors downloaded or cached by timm loaded')

    def freeze(self, stages: float) -> None:
        """Freezes the embedding and the first blocks, see `frozen_stages` of the class.

        Raises:
            ValueError: there are not so many blocks, or half a block of a kind without `norm1` and `attn`.
        """
        depth = self.arch.depth
        if stages != -1 and not (0 <= stages <= depth and stages % 0.5 == 0):
            raise ValueError(f'frozen_stages={stages}, expected -1 (none) to {depth} (all blocks)')
        self.frozen_stages = stages
        for name, parameter in self.vit.named_parameters():
            in_front = not name.startswith(('blocks.', *HEADS))
            parameter.requires_grad_(stages < 0 or not in_front)
        for module in self.frozen_modules():
            module.requires_grad_(False)

    def frozen_modules(self) -> list[nn.Module]:
        """The modules that `frozen_stages` freezes."""
        if self.frozen_stages < 0:
            return []
        blocks = list(self.vit.blocks)
        whole, half = int(self.frozen_stages), self.frozen_stages % 1
        behind = [child for name, child in self.vit.named_children() if f'{name}.' in HEADS]
        modules = [child for name, child in self.vit.named_children() if f'{name}.' not in HEADS and name != 'blocks']
        modules += blocks[:whole]
        if half:
            try:
                modules += blocks[whole].get_submodule('norm1'), blocks[whole].get_submodule('attn')
            except AttributeError:
                raise ValueError(f'frozen_stages={self.frozen_stages}: {type(blocks[whole]).__name__} of timm has no '
                                 'norm1 and attn, freeze whole blocks') from None
        elif whole == len(blocks):
            modules += behind
        return modules

    def train(self, mode: bool = True) -> 'TimmViT':
        """Keeps frozen modules in evaluation mode, so that they drop no path and move no positions."""
        super().train(mode and self.frozen_stages < self.arch.depth)
        for module in self.frozen_modules():
            module.eval()
        return self

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that timm does not decay: positions, tokens, tables of relative positions."""
        names = {name for name, _ in self.named_parameters()}
        return {f'vit.{name}' for name in self.vit.no_weight_decay()} & names

    def _check_pooling(self) -> None:
        if not self.pooling:
            raise ValueError(f'the backbone {self.name} was built without the pooling of its model: set pooling=True')

    def drop_pooling(self) -> None:
        """Removes what only `pooled` needs: parameters without a gradient would stop distributed training."""
        self.pooling = False
        for name in ('fc_norm', 'attn_pool'):
            if isinstance(getattr(self.vit, name, None), nn.Module):
                setattr(self.vit, name, None if name == 'attn_pool' else nn.Identity())
        for name in ('norm', 'neck') if not self.final_norm else ():
            if hasattr(self.vit, name):
                setattr(self.vit, name, nn.Identity())


def _pretrained(init_cfg: dict | str | None, name: str) -> dict[str, Any] | None:
    """The checked `init_cfg` of a backbone; by default the weights in the folder `name`, if it is one."""
    if init_cfg == FROM_FOLDER:
        return dict(type='Pretrained', checkpoint=name) if Path(name).is_dir() else None
    if init_cfg is None:
        return None
    keys = set(init_cfg) if isinstance(init_cfg, dict) else set()
    if not isinstance(init_cfg, dict) or init_cfg.get('type') != 'Pretrained' or 'checkpoint' not in keys or not (
            keys <= {'type', 'checkpoint', 'weights_key', 'heads'}):
        raise ValueError(f"init_cfg={init_cfg}, expected dict(type='Pretrained', checkpoint=PATH), "
                         f"dict(type='Pretrained', checkpoint={DOWNLOAD!r}) or None")
    return init_cfg


def pixel_warning(model: nn.Module) -> str | None:
    """A warning if the preprocessor of a model normalizes pixels in another way than its pretrained backbone expects.

    None for any other backbone than `TimmViT`, for one without `init_cfg`, and if both agree.
    """
    backbone, preprocessor = getattr(model, 'backbone', None), getattr(model, 'data_preprocessor', None)
    if not isinstance(backbone, TimmViT) or backbone.init_cfg is None or len(backbone.mean) != backbone.in_channels:
        return None
    used: dict[str, Any] = {key: getattr(preprocessor, key, None) for key in ('mean', 'std')}
    stated = {'mean': backbone.mean, 'std': backbone.std}
    if all(isinstance(used[key], Tensor) and used[key].numel() == len(stated[key])
           and torch.allclose(used[key].flatten().cpu(), torch.tensor(stated[key]), atol=0.5) for key in used):
        return None
    found = ', '.join(f'{key}={[round(value, 2) for value in used[key].flatten().tolist()]}'
                      if isinstance(used[key], Tensor) else f'no {key}' for key in used)
    wanted = ', '.join(f'{key}={list(stated[key])}' for key in stated)
    return (f'the data_preprocessor has {found}, but the weights of {backbone.name} were trained with {wanted}: set '
            'these in model.data_preprocessor, unless the weights were trained again with other ones')


def create_vit(name: str, options: dict[str, Any], *, pretrained: bool = False) -> Any:
    """Builds a plain ViT of timm without classifier, for images of any size if it has that option.

    Args:
        name: as in `TimmViT`.
        options: arguments of `timm.create_model`.
        pretrained: download its weights.

    Raises:
        ValueError: an unknown name, another kind of model, or options that timm refuses.
    """
    full_name = name
    if Path(name).is_dir():
        _check_known(str(folder_config(name)['architecture']), name)
        full_name = f'local-dir:{name}'
    else:
        _check_known(name.partition('.')[0], name)
    try:
        vit = _create(full_name, pretrained=pretrained, num_classes=0, **options)
    except (TypeError, AssertionError, ValueError, KeyError) as error:
        raise ValueError(f'timm cannot build {name} with {options}: {error}. Correct the options of the backbone, '
                         'which are arguments of timm.create_model') from error
    blocks: Any = getattr(vit, 'blocks', None)
    patch_embed: Any = getattr(vit, 'patch_embed', None)
    if (not isinstance(blocks, nn.Sequential | nn.ModuleList) or not hasattr(patch_embed, 'patch_size')
            or not hasattr(vit, 'forward_intermediates') or not hasattr(blocks[0], 'attn')
            or not hasattr(blocks[0].attn, 'num_heads')
            or len({(info['num_chs'], info['reduction']) for info in vit.feature_info}) != 1):
        raise ValueError(f'{name} is a {type(vit).__name__} of timm, expected a plain ViT with patch_embed, blocks '
                         'of one width and stride, and forward_intermediates: name a vit_*, deit*, eva*, beit* or '
                         'samvit_*')
    if len(set(patch_embed.patch_size)) != 1:
        raise ValueError(f'{name} has patches of {patch_embed.patch_size} pixels, expected square ones')
    if isinstance(vit, Beit):
        allow_any_size(vit)
    return vit


def _create(name: str, **options: Any) -> Any:
    """timm.create_model, with `dynamic_img_size` if the model has that option."""
    try:
        return timm.create_model(name, dynamic_img_size=True, **options)
    except TypeError as error:
        if 'dynamic_img_size' not in str(error):
            raise
        return timm.create_model(name, **options)


def _check_known(architecture: str, name: str) -> None:
    if timm.is_model(architecture):
        return
    close = difflib.get_close_matches(architecture, timm.list_models(), n=3)
    raise ValueError(f'{name} is neither a model of timm {timm.__version__} nor a local folder'
                     + (f'; similar names: {", ".join(close)}' if close else '')
                     + ': see timm.list_models("vit_*"), or update timm')
