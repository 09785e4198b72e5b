"""Memory of a data loader with workers does not grow over epochs."""
import gc
import os
import sys
from pathlib import Path

import pytest
from helpers.image_files import photograph, save
from torch.utils.data import DataLoader

from mae_backbone.data.batch import as_is
from mae_backbone.data.sampler import PretrainBatchSampler, PretrainSampler
from mae_backbone.data.unlabeled import UnlabeledImages

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != 'linux', reason='memory is read from /proc')]


def memory(pids: list[int]) -> int:
    """Bytes that these processes hold together, shared pages counted once (proportional set size)."""
    total = 0
    for pid in pids:
        lines = Path(f'/proc/{pid}/smaps_rollup').read_text().splitlines()
        total += 1024 * int(next(line for line in lines if line.startswith('Pss:')).split()[1])
    return total


@pytest.mark.parametrize('persistent', [True, False])
def test_memory_does_not_grow_over_epochs(tmp_path, persistent, record_property):
    for i in range(96):
        save(tmp_path / f'{i}.jpg', photograph(60 + i, 90, seed=i), quality=90)
    (tmp_path / 'empty.jpg').touch()
    images = UnlabeledImages(tmp_path, image_size=64, max_bad_share=0.5)
    images.bad.list_file = tmp_path / 'bad_images.txt'
    batches = PretrainBatchSampler(PretrainSampler(images, seed=0), 8, repeats=2)
    loader = DataLoader(images, batch_sampler=batches, collate_fn=as_is, num_workers=2, persistent_workers=persistent)
    held = []
    for epoch in range(20):
        batches.set_epoch(epoch)
        pids = [os.getpid()]
        iterator = iter(loader)
        pids += [worker.pid for worker in iterator._workers]
        for step, batch in enumerate(iterator, 1):
            assert batch['inputs'].shape == (8, 64, 64, 3)
            if step == len(batches) - 4:  # workers have seen it all, and not ended yet
                gc.collect()
                held.append(memory(pids))
        del iterator, batch
    record_property('megabytes', [round(value / 2**20, 1) for value in held])
    assert len(held) == 20
    assert max(held[10:]) < 1.02 * max(held[3:10]) + 2**20
