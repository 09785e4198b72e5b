"""Test-time augmentation of segmenters that holds the logits of one view at a time."""
from mmengine.model import BaseTTAModel
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor

from mae_backbone.registry import MODELS


@MODELS.register_module()
class SegmentationTTA(BaseTTAModel):
    """The class of the largest mean probability over all views of an image, as by mmseg's `SegTTAModel`.

    That one holds the logits of all views, and of models with a single logit it takes the sigmoid twice.
    """

    def test_step(self, data: dict) -> list[SegDataSample]:
        """data of the views of a batch, as TestTimeAug gives them -> the first view's samples with merged classes."""
        total = None
        for i in range(len(data['inputs'])):
            samples = self.module.test_step({key: value[i] for key, value in data.items()})
            shares = [_probabilities(sample) for sample in samples]
            if total is None:
                first, total = samples, shares
            else:
                total = [so_far.add_(share) for so_far, share in zip(total, shares, strict=True)]
        return [self._labeled(sample, share / len(data['inputs'])) for sample, share
                in zip(first, total, strict=True)]

    def merge_preds(self, data_samples_list: list) -> list[SegDataSample]:
        """Not used: `test_step` merges the views as they come."""
        raise NotImplementedError('SegmentationTTA merges views in test_step')

    def _labeled(self, sample: SegDataSample, shares: Tensor) -> SegDataSample:
        """shares (C, H, W) -> the sample with the classes (1, H, W) of its pixels."""
        head = getattr(self.module, 'module', self.module).decode_head  # out of the wrapper of a distributed run
        labels = (shares > head.threshold).to(shares) if len(shares) == 1 else shares.argmax(0, keepdim=True)
        sample.set_data({'pred_sem_seg': PixelData(data=labels)})
        return sample


def _probabilities(sample: SegDataSample) -> Tensor:
    """(C, H, W) of the classes, or (1, H, W) where there is one logit, of which mmseg gives the sigmoid."""
    logits = sample.seg_logits.data
    del sample.seg_logits
    return logits if len(logits) == 1 else logits.softmax(0)
