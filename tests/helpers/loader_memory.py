"""Print the memory of a data loader after each of 20 epochs, as JSON: `python loader_memory.py FOLDER PERSISTENT`."""
import gc
import json
import os
import sys
from pathlib import Path

from torch.utils.data import DataLoader

from mae_backbone.data.batch import as_is
from mae_backbone.data.sampler import PretrainBatchSampler, PretrainSampler
from mae_backbone.data.unlabeled import UnlabeledImages


def memory(pids: list[int]) -> int:
    """Bytes that these processes hold together, pages that they share counted once (proportional set size).

    Pages of files are left out: the share of a library that counts for a process grows when a foreign process ends.
    """
    kilobytes = 0
    for pid in pids:
        lines = Path(f'/proc/{pid}/smaps_rollup').read_text().splitlines()
        kilobytes += sum(int(line.split()[1]) for line in lines if line.startswith(('Pss_Anon:', 'Pss_Shmem:')))
    assert kilobytes, 'the kernel does not tell anonymous pages apart (Linux 5.10 and later do)'
    return 1024 * kilobytes


def bytes_after_epochs(folder: Path, persistent: bool) -> list[int]:
    images = UnlabeledImages(folder, image_size=64, max_bad_share=0.5)
    images.bad.list_file = folder / 'bad_images.txt'
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
    return held


if __name__ == '__main__':
    print(json.dumps(bytes_after_epochs(Path(sys.argv[1]), sys.argv[2] == 'True')))
