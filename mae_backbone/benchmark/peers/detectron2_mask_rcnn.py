"""Mask R-CNN on ViTDet-B of detectron2, built by its own configs."""
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mae_backbone.benchmark.batches import Shape, draw_objects
from mae_backbone.benchmark.measurement import Clock
from mae_backbone.benchmark.peers.detectron2_code import Detectron2
from mae_backbone.benchmark.peers.peer import MissingPeerError, StepResult, TrainPeer

_MODEL, _OPTIMIZER = 'configs/common/models/mask_rcnn_vitdet.py', 'configs/common/optim.py'


class Detectron2MaskRCNN(Detectron2, TrainPeer):
    """Model and optimizer of `projects/ViTDet/configs/COCO/mask_rcnn_vitdet_b_100ep.py`, with random weights.

    RoIAlign and NMS of detectron2 are torchvision's ops. Nothing is compiled.
    """

    def load(self) -> None:
        """Imports detectron2. Raises MissingPeerError, also without a checkout: a wheel has no such configs."""
        super().load()
        if self.root is None or not (self.root / _MODEL).is_file():
            raise MissingPeerError(f'--against detectron2 needs --peer-root with a checkout of detectron2, which has '
                                   f'{_MODEL} (given: {self.root})')

    def build(self, shape: Shape, device: torch.device, dtype: torch.dtype | None) -> Callable[[], StepResult]:
        """Builds model, optimizer and batch. Raises ValueError if the images are not square."""
        H, W = shape.size
        if H != W:
            raise ValueError(f'--image-size {H} {W}: detectron2 pads to squares, give one number')
        with _quiet():
            config = self.module('detectron2.config')
            model = self._model(config, H).to(device).train()
            optimizer = self._optimizer(config, model)
        batch = self._batch(shape, device)
        storage = self.module('detectron2.utils.events').EventStorage
        scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)

        def step() -> StepResult:
            clock = Clock(device)
            with _quiet(), storage(), torch.autocast(device.type, dtype, enabled=dtype is not None):
                loss = sum(model(batch).values())
            clock.lap('forward')
            scaler.scale(loss).backward()
            clock.lap('backward')
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            clock.lap('optimizer')
            return clock.parts, {'loss': loss.item(), 'parameters': float(sum(p.numel() for p in model.parameters()))}
        return step

    def settings(self) -> dict[str, object]:
        """Names of the parts, for the table."""
        return {'config': Path(_MODEL).name, 'model': 'GeneralizedRCNN', 'backbone': 'ViT',
                'optimizer': 'torch.optim.AdamW', 'code': self.code()}

    def _model(self, config: Any, size: int) -> Any:
        """Builds the model for images of `size` pixels, as the config does for 1,024."""
        assert self.root is not None
        model = config.LazyConfig.load(str(self.root / _MODEL)).model
        model.backbone.square_pad = model.backbone.net.img_size = size
        return config.instantiate(model)

    def _optimizer(self, config: Any, model: Any) -> torch.optim.Optimizer:
        """Builds the optimizer with the learning rate decay of the config of ViTDet-B."""
        assert self.root is not None
        optimizer = config.LazyConfig.load(str(self.root / _OPTIMIZER)).AdamW
        rate = self.module('detectron2.modeling.backbone.vit').get_vit_lr_decay_rate
        optimizer.params.model = model
        optimizer.params.lr_factor_func = partial(rate, num_layers=12, lr_decay_rate=0.7)
        optimizer.params.overrides = {'pos_embed': {'weight_decay': 0.0}}
        return config.instantiate(optimizer)

    def _batch(self, shape: Shape, device: torch.device) -> list[dict[str, Any]]:
        """Draws images with boxes, classes and bit masks, as detectron2's mapper gives them for this recipe."""
        structures = self.module('detectron2.structures')
        batch = []
        for image in torch.randint(256, (shape.images, 3, *shape.size), dtype=torch.uint8):
            boxes, labels, masks = draw_objects(shape)
            instances = structures.Instances(shape.size)
            instances.gt_boxes, instances.gt_classes = structures.Boxes(boxes), labels
            instances.gt_masks = structures.BitMasks(masks)
            batch.append({'image': image.to(device), 'height': shape.size[0], 'width': shape.size[1],
                          'instances': instances.to(device)})
        return batch


@contextmanager
def _quiet() -> Iterator[None]:
    """Hides warnings, because detectron2 uses deprecated functions of torch and timm."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield
