import numpy as np
import pytest
from pycocotools import mask as coco_rle

from mae_backbone.formats.coco_masks import decompress


@pytest.mark.parametrize('seed', range(3))
def test_run_lengths_equal_pycocotools(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for height, width in ((1, 1), (30, 40), (700, 900)):
        for fraction in (0, 0.01, 0.5, 1):
            mask = np.asfortranarray(rng.random((height, width)) < fraction, np.uint8)
            if seed:
                mask[:, width // 2:] = 0  # a long run at the end
            edges = np.flatnonzero(np.diff(mask.T.ravel())) + 1
            runs = np.diff([0, *edges, mask.size]).tolist()
            lengths = [0, *runs] if mask[0, 0] else runs
            assert decompress(coco_rle.encode(mask)['counts'].decode()) == lengths
