"""Test-time augmentation of detectors for boxes and masks; mmdet merges boxes only."""
from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.roi_heads import CascadeRoIHead, StandardRoIHead
from mmdet.models.test_time_augs import DetTTAModel
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi, bbox_flip
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mae_backbone.registry import MODELS

_FLIP_DIMS = {'horizontal': (3,), 'vertical': (2,), 'diagonal': (2, 3)}


@MODELS.register_module()
class DetectionTTA(DetTTAModel):
    """Merges the boxes of all views of an image by NMS, then averages the masks of the merged boxes over the views.

    detectron2 does the same (`modeling/test_time_augmentation.py`, `GeneralizedRCNNWithTTA`). The features of all views
    stay in memory until the masks are predicted.

    Args:
        module: the detector.
        tta_cfg: `nms` and `max_per_img` of the merged boxes; by default the detector's own settings.

    Raises:
        ValueError: the detector predicts masks, but not with a mask head on boxes.
    """

    def __init__(self, module: nn.Module, tta_cfg: dict | None = None) -> None:
        detector = module if isinstance(module, nn.Module) else MODELS.build(module)
        unwrapped: Any = getattr(detector, 'module', detector)  # without the wrapper of a distributed run
        super().__init__(ConfigDict(tta_cfg or _merging_settings(unwrapped)), module=detector)
        head = getattr(unwrapped, 'roi_head', None)
        if getattr(unwrapped, 'with_mask', False) and not isinstance(head, (StandardRoIHead, CascadeRoIHead)):
            raise ValueError(f'test-time augmentation cannot merge the masks of {type(unwrapped).__name__}, which has '
                             'no mask head on boxes: test without --tta')
        self._unwrapped = [unwrapped]  # in a list, so that it is not registered as a second child

    def test_step(self, data: dict) -> list[DetDataSample]:
        """Data of the views of a batch, as from `TestTimeAug` -> detections of each image."""
        detector = self._unwrapped[0]
        if not getattr(detector, 'with_mask', False):
            return super().test_step(data)
        views = [detector.data_preprocessor({key: value[i] for key, value in data.items()})
                 for i in range(len(data['inputs']))]
        features = [detector.extract_feat(view['inputs']) for view in views]
        samples = list(zip(*[self._predict_boxes(maps, view['data_samples']) for maps, view
                             in zip(features, views, strict=True)], strict=True))
        # Read before merging, which changes the metainfo of the first view.
        metas = [[sample.metainfo for sample in views_of_image] for views_of_image in samples]
        merged = self.merge_preds(samples)
        for index, (sample, metas_of_image) in enumerate(zip(merged, metas, strict=True)):
            maps = [[level[index:index + 1] for level in levels] for levels in features]
            sample.pred_instances = self._add_masks(sample.pred_instances, maps, metas_of_image)
        return merged

    def _predict_boxes(self, features: Sequence[Tensor], samples: list[DetDataSample]) -> list[DetDataSample]:
        """Returns the detections of a view, without masks, in pixels of the image file."""
        detector = self._unwrapped[0]
        proposals = detector.rpn_head.predict(features, samples, rescale=False)
        detections = detector.roi_head.predict_bbox(features, [sample.metainfo for sample in samples], proposals,
                                                    detector.roi_head.test_cfg, rescale=True)
        return detector.add_pred_to_datasample(samples, detections)

    def _add_masks(self, detections: InstanceData, features: list[list[Tensor]], metas: list[dict]) -> InstanceData:
        """Adds masks (N, H, W) to the boxes (N, 4) of an image, from the features and metainfo of each view."""
        head = self._unwrapped[0].roi_head
        meta_of_file = {**metas[0], 'scale_factor': (1.0, 1.0)}  # masks are in pixels of the image file
        height, width = meta_of_file['ori_shape'][:2]
        if not len(detections):
            detections.masks = torch.zeros(0, height, width, dtype=torch.bool, device=detections.bboxes.device)
            return detections
        probabilities = torch.stack([_mask_probabilities(head, maps, detections.bboxes, meta)
                                     for maps, meta in zip(features, metas, strict=True)]).mean(0)
        mask_head: Any = head.mask_head[0] if isinstance(head.mask_head, nn.ModuleList) else head.mask_head
        return mask_head.predict_by_feat(
            mask_preds=[probabilities.logit()], results_list=[detections], batch_img_metas=[meta_of_file],
            rcnn_test_cfg=head.test_cfg, rescale=True)[0]


def _merging_settings(detector: Any) -> dict:
    """Returns the settings by which a detector merges the boxes of one image."""
    settings = detector.test_cfg or {}
    settings = settings.get('rcnn', settings)
    return dict(nms=settings.get('nms') or dict(type='nms', iou_threshold=0.5),  # 0.5 as in Mask R-CNN
                max_per_img=settings.get('max_per_img', 100))


def _mask_probabilities(head: Any, features: list[Tensor], boxes: Tensor, meta: dict) -> Tensor:
    """Returns mask probabilities (N, num_classes, h, w) in boxes (N, 4) of the image file, from one view of it."""
    direction = meta.get('flip_direction') if meta.get('flip') else None
    if direction:
        boxes = bbox_flip(boxes, meta['ori_shape'], direction)
    rois = bbox2roi([boxes * boxes.new_tensor(meta['scale_factor']).repeat(2)])
    # mmdet's cascade has one mask head per stage, whose probabilities have equal weights.
    stages = range(len(head.mask_head)) if isinstance(head.mask_head, nn.ModuleList) else [0]
    cascade = isinstance(head, CascadeRoIHead)
    masks = torch.stack([(head._mask_forward(stage, features, rois) if cascade else head._mask_forward(features, rois))
                         ['mask_preds'].sigmoid() for stage in stages]).mean(0)
    return masks.flip(_FLIP_DIMS[direction]) if direction else masks
