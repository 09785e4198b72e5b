"""Test-time augmentation of detectors for boxes and masks; mmdet's merges boxes alone."""
from collections.abc import Sequence

import torch
from mmdet.models.roi_heads import CascadeRoIHead, StandardRoIHead
from mmdet.models.test_time_augs import DetTTAModel
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi, bbox_flip
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mae_backbone.registry import MODELS


@MODELS.register_module()
class DetectionTTA(DetTTAModel):
    """Boxes of all views of an image, merged by NMS; then masks of the merged boxes, as the mean over the views.

    So does detectron2 (`modeling/test_time_augmentation.py`, `GeneralizedRCNNWithTTA`). Features of all views are held
    until the masks are made.

    Args:
        module: the detector.
        tta_cfg: `nms` and `max_per_img` of the merged boxes; without it those of the detector itself.

    Raises:
        ValueError: a detector that makes masks without a mask head on boxes.
    """

    def __init__(self, module: nn.Module, tta_cfg: dict | None = None) -> None:
        detector = module if isinstance(module, nn.Module) else MODELS.build(module)
        bare = getattr(detector, 'module', detector)  # of a distributed run
        super().__init__(ConfigDict(tta_cfg or _merging(bare)), module=detector)
        head = getattr(bare, 'roi_head', None)
        if getattr(bare, 'with_mask', False) and not isinstance(head, (StandardRoIHead, CascadeRoIHead)):
            raise ValueError(f'test-time augmentation cannot merge the masks of {type(bare).__name__}: it has no mask '
                             'head that works on boxes; test without --tta')
        self.bare = [bare]  # in a list, so that it is no second child

    def test_step(self, data: dict) -> list[DetDataSample]:
        """data of the views of a batch, as TestTimeAug gives them -> what was found in each image."""
        detector = self.bare[0]
        if not getattr(detector, 'with_mask', False):
            return super().test_step(data)
        views = [detector.data_preprocessor({key: value[i] for key, value in data.items()})
                 for i in range(len(data['inputs']))]
        features = [detector.extract_feat(view['inputs']) for view in views]
        samples = list(zip(*[self._boxes(maps, view['data_samples']) for maps, view
                             in zip(features, views, strict=True)], strict=True))
        metas = [[sample.metainfo for sample in several] for several in samples]  # merging changes the first
        merged = self.merge_preds(samples)
        for index, (sample, several) in enumerate(zip(merged, metas, strict=True)):
            maps = [[level[index:index + 1] for level in levels] for levels in features]
            sample.pred_instances = self._with_masks(sample.pred_instances, maps, several)
        return merged

    def _boxes(self, features: Sequence[Tensor], samples: list[DetDataSample]) -> list[DetDataSample]:
        """What a view shows, without masks, in pixels of the image file."""
        detector = self.bare[0]
        proposals = detector.rpn_head.predict(features, samples, rescale=False)
        found = detector.roi_head.predict_bbox(features, [sample.metainfo for sample in samples], proposals,
                                               detector.roi_head.test_cfg, rescale=True)
        return detector.add_pred_to_datasample(samples, found)

    def _with_masks(self, found: InstanceData, features: list[list[Tensor]], metas: list[dict]) -> InstanceData:
        """Adds to the boxes (N, 4) of an image their masks (N, H, W), from the features and metainfo of each view."""
        head = self.bare[0].roi_head
        image = {**metas[0], 'scale_factor': (1.0, 1.0)}  # masks are laid out in pixels of the file
        height, width = image['ori_shape'][:2]
        if not len(found):
            found.masks = torch.zeros(0, height, width, dtype=torch.bool, device=found.bboxes.device)
            return found
        shares = torch.stack([_mask_shares(head, maps, found.bboxes, meta)
                              for maps, meta in zip(features, metas, strict=True)]).mean(0)
        mask_head = head.mask_head[0] if isinstance(head.mask_head, nn.ModuleList) else head.mask_head
        return mask_head.predict_by_feat(
            mask_preds=[shares.logit()], results_list=[found], batch_img_metas=[image], rcnn_test_cfg=head.test_cfg,
            rescale=True)[0]


def _merging(detector: nn.Module) -> dict:
    """The settings by which a detector merges the boxes of one image."""
    settings = detector.test_cfg or {}
    settings = settings.get('rcnn', settings)
    return dict(nms=settings.get('nms') or dict(type='nms', iou_threshold=0.5),  # 0.5: of Mask R-CNN
                max_per_img=settings.get('max_per_img', 100))


def _mask_shares(head: nn.Module, features: list[Tensor], boxes: Tensor, meta: dict) -> Tensor:
    """Probabilities (N, classes, h, w) of the masks in boxes (N, 4) of the image file, from one view of it."""
    direction = meta.get('flip_direction') if meta.get('flip') else None
    if direction:
        boxes = bbox_flip(boxes, meta['ori_shape'], direction)
    rois = bbox2roi([boxes * boxes.new_tensor(meta['scale_factor']).repeat(2)])
    # mmdet's cascade has a mask head for each stage, whose probabilities count alike.
    stages = range(len(head.mask_head)) if isinstance(head.mask_head, nn.ModuleList) else [0]
    cascade = isinstance(head, CascadeRoIHead)
    masks = torch.stack([(head._mask_forward(stage, features, rois) if cascade else head._mask_forward(features, rois))
                         ['mask_preds'].sigmoid() for stage in stages]).mean(0)
    return masks.flip(_FLIPPED[direction]) if direction else masks


_FLIPPED = {'horizontal': (3,), 'vertical': (2,), 'diagonal': (2, 3)}
