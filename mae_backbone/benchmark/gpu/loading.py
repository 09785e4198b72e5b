"""Images per second that the loader of a pretraining delivers from shards. Needs mmengine."""
import time
from itertools import islice

from torch.utils.data import DataLoader

from mae_backbone.benchmark.gpu.check import Rows, Settings, SkippedCheckError
from mae_backbone.utils.cpu import available_cpus

BATCH = 256


def from_shards(settings: Settings) -> Rows:
    """All CPUs decode and crop to 224 pixels; the first batches, while workers start, are not counted."""
    if settings.shards is None:
        raise SkippedCheckError('give --shards DIR, written by mae-backbone pack')
    from mae_backbone.data.batch import as_is
    from mae_backbone.data.sampler import PretrainBatchSampler, PretrainSampler
    from mae_backbone.data.unlabeled import UnlabeledImages
    dataset, workers = UnlabeledImages(settings.shards, image_size=224), available_cpus()
    size = min(BATCH, len(dataset))
    batches, first = 2 if settings.tiny else 20 * workers, 1 if settings.tiny else 2 * workers
    sampler = PretrainBatchSampler(PretrainSampler(range(len(dataset)), seed=0), size, drop_last=True, rank=0,
                                   world_size=1)
    draws = [draw for _ in range(-(-(first + batches) // max(1, len(sampler)))) for draw in sampler]
    loader = DataLoader(dataset, batch_sampler=draws, num_workers=workers, collate_fn=as_is,
                        pin_memory=settings.device == 'cuda', prefetch_factor=2)
    iterator = iter(loader)
    for _ in islice(iterator, first):
        pass
    begin = time.perf_counter()
    count = sum(1 for _ in islice(iterator, batches))
    rate = count * size / (time.perf_counter() - begin)
    yield f'{workers} workers', {'images/s': rate, 'images/s of a worker': rate / workers}
