"""Nearest neighbors against a loop in NumPy and scikit-learn, and the loop that runs them over a data set."""
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing as multiprocessing
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor, nn
from torch.utils.data import Dataset

from mae_backbone.evaluation.knn import gather, knn_predict, knn_predictions, normalize


def random_bank(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """11 features of 50 images in 4 classes."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(11, 6, generator=generator), torch.randn(50, 6, generator=generator),
            torch.randint(4, (50,), generator=generator))


def numpy_knn(features: Tensor, bank: Tensor, labels: Tensor, *, num_classes: int, k: int,
              temperature: float) -> list[int]:
    predictions = []
    for feature in features.double().numpy():
        similarity = [feature @ other / np.linalg.norm(feature) / np.linalg.norm(other)
                      for other in bank.double().numpy()]
        votes = np.zeros(num_classes)
        for i in np.argsort(similarity)[::-1][:k]:
            votes[labels[i]] += np.exp(similarity[i] / temperature)
        predictions.append(int(votes.argmax()))
    return predictions


@pytest.mark.parametrize('k', [1, 5, 50])
@pytest.mark.parametrize('temperature', [0.07, 1.0])
@pytest.mark.parametrize('seed', [0, 1])
def test_prediction_is_the_weighted_vote(k: int, temperature: float, seed: int):
    features, bank, labels = random_bank(seed)
    found = knn_predict(features, bank, labels, num_classes=4, k=k, temperature=temperature)
    assert found.tolist() == numpy_knn(features, bank, labels, num_classes=4, k=k, temperature=temperature)


def test_prediction_does_not_depend_on_chunks_lengths_or_order():
    features, bank, labels = random_bank()
    wanted = knn_predict(features, bank, labels, num_classes=4)
    order = torch.randperm(len(bank), generator=torch.Generator().manual_seed(0))
    for found in (knn_predict(features, bank, labels, num_classes=4, chunk=1),
                  knn_predictions(features, bank, labels, num_classes=4, ks=[20], bank_chunk=7)[20],
                  knn_predict(features, bank, labels, num_classes=4, chunk=4),
                  knn_predict(3e3 * features, torch.linspace(0.1, 9, 50)[:, None] * bank, labels, num_classes=4),
                  knn_predict(features, bank[order], labels[order].int(), num_classes=4)):
        assert torch.equal(found, wanted)
    assert knn_predict(features[:0], bank, labels, num_classes=4).shape == (0,)


@pytest.mark.parametrize('temperature', [0.07, 0.5])
def test_predictions_equal_scikit_learn(temperature: float):
    generator = torch.Generator().manual_seed(0)
    bank, features = (torch.randn(number, 16, generator=generator) for number in (500, 200))
    labels = torch.randint(7, (500,), generator=generator)
    found = knn_predictions(features, bank, labels, num_classes=7, temperature=temperature, chunk=64, bank_chunk=90)
    assert found.keys() == {10, 20, 100, 200}
    for k, predictions in found.items():
        theirs = KNeighborsClassifier(k, metric='cosine', algorithm='brute',
                                      weights=lambda distance: np.exp((1 - distance) / temperature))
        theirs.fit(bank.double().numpy(), labels.numpy())
        assert predictions.tolist() == theirs.predict(features.double().numpy()).tolist()


def test_mapped_half_precision_bank_is_never_copied_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    features, bank, labels = random_bank()
    np.save(tmp_path / 'bank.npy', bank.half().numpy())
    mapped = torch.from_numpy(np.load(tmp_path / 'bank.npy', mmap_mode='c'))
    sizes = []
    monkeypatch.setattr('mae_backbone.evaluation.knn.normalize',
                        lambda rows: sizes.append(len(rows)) or normalize(rows))
    found = knn_predictions(features, mapped, labels, num_classes=4, ks=[5], chunk=4, bank_chunk=16)[5]
    assert max(sizes) <= 16
    assert torch.equal(found, knn_predict(features, bank.half(), labels, num_classes=4, k=5))


def test_temperature_near_zero_takes_the_nearest():
    features, bank, labels = random_bank()
    nearest = knn_predict(features, bank, labels, num_classes=4, k=1)
    assert torch.equal(knn_predict(features, bank, labels, num_classes=4, k=20, temperature=1e-5), nearest)


@pytest.mark.parametrize(('change', 'says'), [
    ({'k': 51}, 'k=51 neighbors of a bank of 50 images: choose k from 1 to 50'),
    ({'k': 0}, 'k=0'),
    ({'temperature': 0.0}, 'temperature=0.0'),
    ({'num_classes': 3}, 'labels of the bank are from 0 to 3, expected 0 to 2'),
    ({'labels': torch.zeros(49).long()}, r'labels \(49,\), expected \(M, D\) and \(M,\)'),
    ({'features': torch.zeros(3, 5)}, r'features are \(3, 5\), expected \(N, 6\)'),
    ({'features': torch.full((3, 6), torch.nan)}, 'NaN or infinite'),
])
def test_invalid_arguments_are_refused(change: dict, says: str):
    features, bank, labels = random_bank()
    arguments = {'features': features, 'bank': bank, 'labels': labels, 'num_classes': 4, **change}
    with pytest.raises(ValueError, match=says):
        knn_predict(arguments.pop('features'), **arguments)


# The loop

class Images(Dataset):
    """Random images, some noise around one image for each class."""

    def __init__(self, seed: int, labels: list, noise: float = 0.2) -> None:
        generator = torch.Generator().manual_seed(seed)
        centers = torch.randn(10, 3, 4, 4, generator=torch.Generator().manual_seed(99))
        self.labels = labels
        self.images = [centers[label or 0] + noise * torch.randn(3, 4, 4, generator=generator) for label in labels]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> dict:
        return {'inputs': self.images[i], 'data_samples': self.labels[i]}


class Flatten(BaseModel):
    """Pixels as features."""

    def __init__(self, dims: int = 1) -> None:
        super().__init__({'type': 'BaseDataPreprocessor'})
        self.dims = dims
        self.scale = nn.Parameter(torch.ones(()))
        self.modes: list[bool] = []

    def forward(self, inputs: list[Tensor] | Tensor, data_samples: list | None = None, mode: str = '') -> Tensor:
        assert mode == 'tensor'
        self.modes.append(self.training or torch.is_grad_enabled())
        return torch.stack(list(inputs)).flatten(self.dims) * self.scale


def loader(dataset: Dataset, **options: object) -> dict:
    return {'dataset': dataset, 'batch_size': 4, 'num_workers': 0,
            'sampler': {'type': 'DefaultSampler', 'shuffle': False}} | options


def runner(path: Path, queries: Dataset, bank: dict, *, stage: str = 'test', evaluator: dict | list | None = None,
           model: nn.Module | None = None, **loop: object) -> Runner:
    cfg = {f'{stage}_dataloader': loader(queries),
           f'{stage}_cfg': {'type': 'mae_backbone.KNNLoop', 'bank': bank, 'k': 5, **loop},
           f'{stage}_evaluator': {'type': 'mae_backbone.TopKAccuracy', 'topk': (1, 2)} if evaluator is None
           else evaluator}
    return Runner(model or Flatten(), str(path), **cfg, default_hooks={'logger': {'type': 'LoggerHook', 'interval': 1}},
                  experiment_name=f'{path.name}-{time.time_ns()}', log_level='INFO')


@pytest.mark.parametrize('stage', ['test', 'val'])
def test_loop_equals_knn_predict(tmp_path: Path, stage: str):
    bank, queries = Images(0, [i % 3 for i in range(30)], 3.0), Images(1, [i % 3 for i in range(10)], 3.0)
    run = runner(tmp_path, queries, loader(bank, sampler={'type': 'DefaultSampler', 'shuffle': True}), stage=stage)
    call, points = run.call_hook, []
    run.call_hook = lambda point, **arguments: (points.append(point), call(point, **arguments))
    metrics = getattr(run, stage)()
    predictions = knn_predict(torch.stack(queries.images).flatten(1), torch.stack(bank.images).flatten(1),
                              torch.tensor(bank.labels), num_classes=3, k=5)
    right = 100 * (predictions == torch.tensor(queries.labels)).double().mean().item()
    assert 0 < right < 100
    assert metrics['knn/top1'] == pytest.approx(right)
    assert metrics['knn/top2'] >= right
    assert not any(run.model.modes)  # evaluation mode, no gradients
    assert points == ['before_run', f'before_{stage}', f'before_{stage}_epoch',
                      *[f'before_{stage}_iter', f'after_{stage}_iter'] * 3,
                      f'after_{stage}_epoch', f'after_{stage}', 'after_run']
    log = next(tmp_path.rglob('*.log')).read_text()
    assert 'kNN bank [8/8]' in log
    assert f'Epoch({stage})' in log
    assert '[3/3]' in log
    assert 'knn/top1' in log


def test_loop_reports_metrics_for_each_k(tmp_path: Path):
    bank, queries = Images(0, [i % 3 for i in range(30)], 3.0), Images(1, [i % 3 for i in range(10)], 3.0)
    wanted = {}
    for k in (1, 5, 30):
        metrics = runner(tmp_path / str(k), queries, loader(bank), k=k).test()
        wanted |= {name.replace('knn', f'knn{k}'): value for name, value in metrics.items()}
    assert runner(tmp_path / 'all', queries, loader(bank), k=(1, 5, 30)).test() == wanted
    assert len(set(wanted.values())) > 2


def test_loop_extracts_bank_after_hooks_swapped_weights(tmp_path: Path):
    """EMAHook brings its weights in before the epoch: bank and queries must both come after it."""
    class Swap(Hook):
        def before_test_epoch(self, runner: Runner) -> None:
            runner.model.scale.data.fill_(torch.nan)

    run = runner(tmp_path, Images(1, [0, 1]), loader(Images(0, [0, 1] * 4)))
    run.register_hook(Swap())
    with pytest.raises(ValueError, match='NaN or infinite'):
        run.test()


def test_loop_stops_at_one_epoch_of_an_infinite_sampler(tmp_path: Path):
    bank = loader(Images(0, [0, 1, 2] * 4), sampler={'type': 'InfiniteSampler', 'shuffle': True})
    metrics = runner(tmp_path, Images(1, [2, 1, 0, 1, 2]), bank,
                     evaluator=[{'type': 'mae_backbone.TopKAccuracy', 'topk': [1], 'per_class': True}]).test()
    assert metrics == {'knn/top1': 100, 'knn/mean_class': 100, 'knn/class/0': 100, 'knn/class/1': 100,
                       'knn/class/2': 100}


def test_class_missing_in_bank_is_counted_as_error(tmp_path: Path):
    metrics = runner(tmp_path, Images(1, [0, 1, 0, 5]), loader(Images(0, [0, 1] * 5))).test()
    assert metrics['knn/top1'] == 75


@pytest.mark.parametrize(('queries', 'bank', 'options', 'says'), [
    ([0, None], [0, 1] * 4, {}, 'kNN needs the class of every image'),
    ([0, 1], [0, 1] * 4, {'k': 0}, 'k=0 neighbors: choose 1 or more'),
    ([0, 1], [0, 1] * 4, {'temperature': 0.0}, 'temperature=0.0, expected a positive number'),
    ([0, 1], [0, 1], {}, 'the bank of 2 images gives no batch'),
    ([0, 1], [0, 1] * 4, {'evaluator': []}, 'the evaluator has no metric'),
    ([0, 1], [0, 1] * 4, {'model': Flatten(dims=2)}, r"Flatten returns \(4, 3, 16\) for mode='tensor'"),
])
def test_loop_mistakes_are_refused(tmp_path: Path, queries: list, bank: list, options: dict, says: str):
    with pytest.raises(ValueError, match=says):
        runner(tmp_path, Images(1, queries), loader(Images(0, bank), drop_last=True), **options).test()


@pytest.mark.parametrize('k', [20, (2, 10, 20)])
def test_loop_clamps_k_to_size_of_bank_and_warns(tmp_path: Path, k: int | tuple):
    bank, queries = Images(0, [i % 2 for i in range(8)], 3.0), Images(1, [i % 2 for i in range(10)], 3.0)
    metrics = runner(tmp_path / 'large', queries, loader(bank), k=k).test()
    wanted = runner(tmp_path / 'all', queries, loader(bank), k=8 if k == 20 else (2, 8)).test()
    assert metrics == wanted
    assert 'the bank has 8 images: k=' in next((tmp_path / 'large').rglob('*.log')).read_text()


class Batches(list):
    """Stands in for the dataloader of a bank."""

    @property
    def dataset(self) -> range:
        return range(self[-1].stop)


def batches(images: int) -> Batches:
    return Batches([range(start, min(start + 512, images)) for start in range(0, images, 512)])


@pytest.mark.skipif(sys.platform != 'linux', reason='measures the peak of a forked process')
def test_bank_is_in_memory_once(tmp_path: Path):
    loop = runner(tmp_path, Images(1, [0, 1]), loader(Images(0, [0, 1] * 4))).test_loop
    loop.extract = lambda rows: (torch.full((len(rows), 192), 192 ** -0.5), torch.tensor(rows) % 7)
    receive, send = multiprocessing.Pipe(duplex=False)

    def peak() -> int:
        import resource  # not on Windows
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def extract() -> None:
        torch.set_num_threads(1)
        # The first call also loads the pages of torch's libraries that it runs, 10 to 50 MB after a fork.
        loop.bank = batches(2048)
        loop.extract_bank()
        before, loop.bank = peak(), batches(200_000)
        bank, labels = loop.extract_bank()
        send.send((peak() - before, bank.dtype, tuple(bank.shape), torch.equal(labels, torch.arange(200_000) % 7)))
    process = multiprocessing.get_context('fork').Process(target=extract)
    process.start()
    assert receive.poll(60)
    growth, *result = receive.recv()
    process.join()
    assert result == [torch.float16, (200_000, 192), True]
    assert growth < 1.5 * 200_000 * (192 * 2 + 8)


def test_gather_in_one_process_cuts_off_repeated_rows():
    rows = torch.arange(12).reshape(6, 2)
    assert torch.equal(gather(rows, 5), rows[:5])


@pytest.mark.skipif(sys.platform == 'win32', reason='forks, as a spawned process imports everything again')
def test_gather_in_two_processes_keeps_order(tmp_path: Path):
    multiprocessing.start_processes(_gather_in_two, args=(str(tmp_path),), nprocs=2, start_method='fork')
    for rank in range(2):
        for gathered in torch.load(tmp_path / f'{rank}.pt', weights_only=True):
            assert torch.equal(gathered, torch.arange(14).reshape(7, 2))


def _gather_in_two(rank: int, folder: str) -> None:
    torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=2)
    dataset = torch.arange(14).reshape(7, 2)
    # A sampler that leaves the processes unequal, one that rounds up.
    dealt = [torch.cat([dataset, extra])[rank::2] for extra in (dataset[:0], dataset[:1])]
    torch.save([gather(rows, 7, chunk=chunk) for rows in dealt for chunk in (1, 3, 9)], f'{folder}/{rank}.pt')
    torch.distributed.destroy_process_group()
