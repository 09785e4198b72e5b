"""Small detectors with random weights, whose scores and boxes are spread so that NMS has something to drop."""
from collections.abc import Callable
from pathlib import Path

import torch
from helpers.shrink import WIDTH, shrink
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.nn import functional as F

CONFIGS = Path(__file__).parents[2] / 'configs' / 'detection'


class Patches(nn.Conv2d):
    """Backbone without blocks: images (B, 3, H, W) -> one map (B, 32, H / 16, W / 16).

    The values depend on the place, as with position embeddings: proposals in the padding would have equal scores
    otherwise, and runtimes order equal scores as they like.
    """

    def __init__(self) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            super().__init__(3, WIDTH, 16, stride=16)
            self.register_buffer('phases', 10 * torch.rand(2, WIDTH, 1, 1))

    def forward(self, images: Tensor) -> tuple[Tensor]:
        maps = super().forward(images)
        rows, columns = (torch.arange(side, dtype=maps.dtype) for side in maps.shape[-2:])
        return (maps + (self.phases[0] * rows[:, None] + self.phases[1] * columns).sin(),)


def spread_detector(name: str, coco: Path, *, backbone: nn.Module | None = None) -> nn.Module:
    """The model of a config of detection for the tiny set at `coco`, see `shrink`, in evaluation mode.

    Args:
        backbone: in place of the backbone of the config.
    """
    cfg = shrink(Config.fromfile(CONFIGS / f'{name}.py'), coco)
    if name.startswith('fcos'):  # the coarsest level may have a single place, and 32 channels
        cfg.model.bbox_head.norm_cfg = dict(type='GN', num_groups=8)
    with DefaultScope.overwrite_default_scope('mmdet'), torch.random.fork_rng():
        torch.manual_seed(1)
        model = MODELS.build(cfg.model).eval()
        model.backbone = backbone or model.backbone
        spread(model)
    DefaultScope._instance_dict.clear()
    return model


@torch.no_grad()
def spread(model: nn.Module) -> None:
    """Scales the last layers of all heads, so that what they predict varies within and between images."""
    maps = model.neck(model.backbone(2 * torch.randn(2, 3, 128, 128)))
    if not hasattr(model, 'roi_head'):
        head = model.bbox_head
        _scale(head.conv_cls, 1.5, lambda: head(maps))
        _scale(head.conv_reg, 0.5, lambda: head(maps), mean=2.5)
        _scale(head.conv_centerness, 1.0, lambda: head(maps))
        return
    rpn, roi_head = model.rpn_head, model.roi_head
    _scale(rpn.rpn_cls, 1.5, lambda: rpn(maps))
    _scale(rpn.rpn_reg, 0.3, lambda: rpn(maps))
    corners = 64 * torch.rand(200, 2)
    regions = torch.cat([torch.randint(2, (200, 1)), corners, corners + 4 + 80 * torch.rand(200, 2)], dim=1)
    cascade = isinstance(roi_head.bbox_head, nn.ModuleList)
    for i, head in enumerate(roi_head.bbox_head if cascade else [roi_head.bbox_head]):
        arguments = (i, maps, regions) if cascade else (maps, regions)
        _scale(head.fc_cls, 1.5, lambda arguments=arguments: roi_head._bbox_forward(*arguments))
        _scale(head.fc_reg, 1.0, lambda arguments=arguments: roi_head._bbox_forward(*arguments))
    if roi_head.with_mask:
        arguments = (0, maps, regions) if cascade else (maps, regions)
        _scale(roi_head.mask_head.conv_logits, 2.0, lambda: roi_head._mask_forward(*arguments))


def _scale(layer: nn.Module, deviation: float, run: Callable[[], object], *, mean: float = 0.0) -> None:
    """Sets the weights of a layer so that its outputs in `run` have this mean and deviation."""
    outputs: list[Tensor] = []
    nn.init.normal_(layer.weight)
    nn.init.zeros_(layer.bias)
    hook = layer.register_forward_hook(lambda module, inputs, output: outputs.append(output.flatten()))
    run()
    hook.remove()
    values = torch.cat(outputs)
    layer.weight *= deviation / values.std()
    layer.bias.fill_(mean - float(values.mean() * deviation / values.std()))


@torch.no_grad()
def mmdet_predictions(model: nn.Module, images: Tensor) -> list[InstanceData]:
    """What mmdet predicts for normalized images (B, 3, H, W), which it pads to the divisor of the preprocessor."""
    B, _, H, W = images.shape
    meta = dict(img_shape=(H, W), ori_shape=(H, W), scale_factor=(1.0, 1.0))
    divisor = model.data_preprocessor.pad_size_divisor
    padded = F.pad(images, (0, -W % divisor, 0, -H % divisor))
    samples = model.predict(padded, [DetDataSample(metainfo=meta) for _ in range(B)], rescale=False)
    return [sample.pred_instances for sample in samples]
