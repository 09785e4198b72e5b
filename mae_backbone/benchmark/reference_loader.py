"""Reference implementation of the loader: torchvision's functions on PIL images, with our crops."""
import io
import time

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import functional as F

from mae_backbone.data.counter_rng import uniforms
from mae_backbone.data.crops import NUM_UNIFORMS, random_box
from mae_backbone.data.sampler import Draw
from mae_backbone.data.sources import Source

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ReferenceImages(Dataset):
    """Reference data set: PIL as in torchvision's ImageFolder, then the transforms of MAE's `main_pretrain.py`.

    A batch is float32 (B, 3, H, W), normalized. A `Draw` gives the same crop and flip as in `UnlabeledImages`.
    """

    def __init__(self, source: Source, image_size: tuple[int, int]) -> None:
        self.source, self.image_size = source, image_size
        self.parts: dict[str, float] = dict.fromkeys(('read', 'decode', 'crop and resize', 'to floats'), 0.0)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, draw: Draw) -> Tensor:
        clock = [time.process_time()]
        flip, *numbers = uniforms(np.array([draw.seed]), 1 + NUM_UNIFORMS, stream=1)[0]
        data = self.source.read(draw.index)
        clock.append(time.process_time())
        image = Image.open(io.BytesIO(data)).convert('RGB')
        clock.append(time.process_time())
        box = random_box(image.height, image.width, numbers, (0.2, 1.0))
        image = F.resized_crop(image, *box, list(self.image_size), F.InterpolationMode.BICUBIC)
        image = F.hflip(image) if flip < 0.5 else image
        clock.append(time.process_time())
        image = F.normalize(F.to_tensor(image), MEAN, STD)
        clock.append(time.process_time())
        for name, seconds in zip(self.parts, np.diff(clock), strict=True):
            self.parts[name] += seconds
        return image
