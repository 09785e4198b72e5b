"""Test-time augmentation of segmenters that keeps the logits of one view in memory at a time."""
from typing import Any

from mmengine.model import BaseTTAModel
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor

from mae_backbone.registry import MODELS


@MODELS.register_module()
class SegmentationTTA(BaseTTAModel):
    """Predicts the class with the largest mean probability over all views of an image, as mmseg's `SegTTAModel` does.

    `SegTTAModel` keeps the logits of all views in memory, and applies the sigmoid twice for models with a single logit.
    """

    def test_step(self, data: dict) -> list[SegDataSample]:
        """Data of the views of a batch, as from `TestTimeAug` -> samples of the first view with the merged classes."""
        num_views = len(data['inputs'])
        samples = self.module.test_step({key: value[0] for key, value in data.items()})
        totals = [_probabilities(sample) for sample in samples]
        for i in range(1, num_views):
            for total, sample in zip(totals, self.module.test_step({key: value[i] for key, value in data.items()}),
                                     strict=True):
                total.add_(_probabilities(sample))
        return [self._with_labels(sample, total / num_views) for sample, total in zip(samples, totals, strict=True)]

    def merge_preds(self, data_samples_list: list) -> list[SegDataSample]:
        """Not used: `test_step` merges each view as soon as it is predicted."""
        raise NotImplementedError('SegmentationTTA merges views in test_step')

    def _with_labels(self, sample: SegDataSample, probabilities: Tensor) -> SegDataSample:
        """Sets the labels (1, H, W) of a sample from probabilities (C, H, W)."""
        segmenter: Any = getattr(self.module, 'module', self.module)  # without the wrapper of a distributed run
        threshold = segmenter.decode_head.threshold
        labels = ((probabilities > threshold).to(probabilities) if len(probabilities) == 1 else
                  probabilities.argmax(0, keepdim=True))
        sample.set_data({'pred_sem_seg': PixelData(data=labels)})
        return sample


def _probabilities(sample: SegDataSample) -> Tensor:
    """Takes the logits out of a sample: probabilities (C, H, W), or (1, H, W) for models with a single logit.

    mmseg applies the sigmoid to a single logit itself.
    """
    logits = sample.seg_logits.data
    del sample.seg_logits
    return logits if len(logits) == 1 else logits.softmax(0)
