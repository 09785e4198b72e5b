"""What cannot be read is counted over all workers and listed once each, whoever meets it."""
import re
from multiprocessing import get_context

import pytest
import torch
from helpers.image_files import save
from mmengine.model import BaseModel
from mmengine.runner import Runner

from mae_backbone.data.bad_images import BadImages
from mae_backbone.data.decode import BadImageError


def test_each_is_listed_once_over_runs_and_objects(tmp_path):
    file = tmp_path / 'bad_images.txt'
    for _ in range(2):
        for _ in range(2):
            bad = BadImages(0.01)
            bad.list_file = file
            for index, name in enumerate(['a.jpg', 'ünï/ç 日本.jpeg', 'tab\tline\nend.png', 'not\udcffutf8.png']):
                bad.add(index, name, f'{name} is empty')
    assert file.read_text('utf-8').splitlines() == [
        'a.jpg\ta.jpg is empty', 'ünï/ç 日本.jpeg\tünï/ç 日本.jpeg is empty',
        r'tab\tline\nend.png' + '\t' + r'tab\tline\nend.png is empty',
        r'not\udcffutf8.png' + '\t' + r'not\udcffutf8.png is empty']


def _meet_all(bad: BadImages, first: int) -> None:
    for i in range(50):
        index = (first + i) % 50
        bad.add(index, f'{index}.jpg', 'x' * 10_000)


def test_processes_that_meet_the_same_at_once_write_whole_lines_once(tmp_path):
    bad = BadImages(0.01)
    bad.list_file = tmp_path / 'bad_images.txt'
    processes = [get_context('fork').Process(target=_meet_all, args=(bad, first)) for first in (0, 0, 25)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    lines = bad.list_file.read_text().splitlines()
    assert sorted(int(line.split('.')[0]) for line in lines) == list(range(50))
    assert all(line.endswith('\t' + 'x' * 10_000) for line in lines)


def test_counts_are_shared_and_decide(tmp_path):
    bad = BadImages(0.1)
    bad.count(100)
    process = get_context('fork').Process(target=bad.count, args=(50,), kwargs={'bad': 20})
    process.start()
    process.join()
    assert bad.counts == (150, 20)
    bad.check(1000)  # 15 expected, 3.9 * 3 more allowed
    bad.count(10, bad=10)
    with pytest.raises(BadImageError, match=r'30 of 160 drawn images .*max_bad_share=0\.1 '):
        bad.check(1000)


@pytest.mark.parametrize(('max_share', 'total', 'bad_images', 'stops'), [
    (0.01, 41, 1, False), (0.01, 41, 3, True), (0.0, 41, 1, True), (0.01, 1000, 30, True), (0.01, 1000, 5, False)])
def test_one_unreadable_image_of_a_small_set_does_not_stop_a_run(max_share: float, total: int, bad_images: int,
                                                                 stops: bool):
    bad = BadImages(max_share)
    for index in range(bad_images):
        bad.add(index, f'{index}.png', 'is broken')
    bad.count(50 * total, bad=50 * bad_images)
    if stops:
        with pytest.raises(BadImageError, match='could not be read'):
            bad.check(total)
    else:
        bad.check(total)


# ---- hooks/bad_images.py

class Model(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def forward(self, inputs: torch.Tensor, mode: str, **_: torch.Tensor) -> dict[str, torch.Tensor]:
        return {'loss': inputs.float().mean() * self.weight}


@pytest.mark.parametrize('workers', [0, 2])
def test_a_run_lists_them_in_its_work_directory_and_counts_them_in_its_log(tmp_path, workers):
    for i in range(9):
        save(tmp_path / f'images/{i}.png')
    (tmp_path / 'images/empty.jpg').touch()
    runner = Runner(
        model=Model(), work_dir=str(tmp_path), experiment_name=f'bad-images-{workers}',
        train_dataloader=dict(
            dataset=dict(type='mae_backbone.UnlabeledImages', data_root=str(tmp_path / 'images'), image_size=8,
                         max_bad_share=0.5),
            batch_size=2, num_workers=workers, persistent_workers=workers > 0,
            collate_fn=dict(type='mae_backbone.as_is'), sampler=dict(type='mae_backbone.PretrainSampler'),
            batch_sampler=dict(type='mae_backbone.PretrainBatchSampler')),
        train_cfg=dict(by_epoch=True, max_epochs=2), optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(checkpoint=None), custom_hooks=[dict(type='mae_backbone.BadImagesHook')])
    runner.train()
    line, = (tmp_path / 'bad_images.txt').read_text().splitlines()
    assert line.split('\t')[0] == str(tmp_path / 'images/empty.jpg')
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert re.findall(r'(\d+) of (\d+) drawn images could not be read', log) in [
        [(str(met), str(met + 10)), (str(two), str(two + 20))] for met in range(1, 5) for two in range(met + 1, 9)]
    assert 'bad_images.txt lists them' in log
