"""Nearest neighbors: how well the features of a backbone tell classes apart, with nothing trained on them."""
import copy
import time
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.dist import all_gather, get_world_size
from mmengine.evaluator import Evaluator
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, Runner
from torch import Tensor
from torch.utils.data import DataLoader

from mae_backbone.registry import LOOPS

KS = (10, 20, 100, 200)  # DINO's


def knn_predict(features: Tensor, bank: Tensor, labels: Tensor, *, classes: int, k: int = 20,
                temperature: float = 0.07, chunk: int = 1024) -> Tensor:
    """As `knn_answers` for one k: (N,) classes."""
    return knn_answers(features, bank, labels, classes=classes, ks=[k], temperature=temperature, chunk=chunk)[k]


def knn_answers(features: Tensor, bank: Tensor, labels: Tensor, *, classes: int, ks: Sequence[int] = KS,
                temperature: float = 0.07, chunk: int = 1024, bank_chunk: int = 32_768) -> dict[int, Tensor]:
    """features (N, D), bank (M, D) of labels (M,) -> for each k (N,) the class that the k nearest of the bank vote for.

    Nearest by cosine; a neighbor of similarity s votes with the weight exp(s / temperature) (Wu et al., CVPR 2018,
    section 3.4; k and temperature as in DINO, Caron et al., ICCV 2021, section 4.1). Beside its arguments, which may be
    float16 and mapped from the disk, it holds chunk * bank_chunk similarities, 134 MB.

    Args:
        features: on the device to compute on; the bank comes there a chunk at a time.
        classes: number of classes, above every label.
        ks: numbers of neighbors.
        chunk, bank_chunk: features compared with features of the bank at a time; the result does not depend on them.

    Raises:
        ValueError: shapes or labels that do not fit, a feature that is not finite, k above M, or a temperature <= 0.
    """
    for k in ks:
        check_bank(bank, labels, classes=classes, k=k, temperature=temperature)
    if features.ndim != 2 or features.shape[1] != bank.shape[1]:
        raise ValueError(f'features are {tuple(features.shape)}, wanted (N, {bank.shape[1]}) as those of the bank')
    labels = labels.to(features.device)
    answers: dict[int, list[Tensor]] = {k: [] for k in ks}
    for part in features.split(chunk):
        similarity, rows = nearest(normalize(part), bank, max(ks), chunk=bank_chunk)
        for k in ks:
            votes = knn_votes(similarity[:, :k], labels[rows[:, :k]], classes=classes, temperature=temperature)
            answers[k].append(votes.argmax(dim=1))
    return {k: torch.cat(parts) for k, parts in answers.items()}


def nearest(features: Tensor, bank: Tensor, k: int, *, chunk: int = 32_768,
            unit: bool = False) -> tuple[Tensor, Tensor]:
    """features (B, D) of length 1, bank (M, D) -> similarities (B, k), the highest first, and rows (B, k) of the bank.

    The bank is normalized a chunk at a time: a copy of 1.3 million features of width 768 would take 4 GB. With `unit`
    it is of length 1 already.
    """
    similarity = features.new_empty(len(features), 0)
    rows = similarity.long()
    for start in range(0, len(bank), chunk):
        others = bank[start:start + chunk].to(features.device)
        others = others.float() if unit else normalize(others)
        found, place = (features @ others.T).topk(min(k, len(others)), dim=1)
        similarity, rows = torch.cat([similarity, found], dim=1), torch.cat([rows, place + start], dim=1)
        similarity, order = similarity.topk(min(k, similarity.shape[1]), dim=1)
        rows = rows.gather(1, order)
    return similarity, rows


def check_bank(bank: Tensor, labels: Tensor, *, classes: int, k: int, temperature: float) -> None:
    """Raises ValueError where neighbors cannot be looked up in bank (M, D) of labels (M,)."""
    if bank.ndim != 2 or labels.shape != bank.shape[:1]:
        raise ValueError(f'the bank is {tuple(bank.shape)} with labels {tuple(labels.shape)}, wanted (M, D) and (M,)')
    if not 1 <= k <= len(bank):
        raise ValueError(f'k={k} neighbors of a bank of {len(bank)} images: '
                         f'choose k from 1 to {len(bank)}, or a larger bank')
    if temperature <= 0:
        raise ValueError(f'temperature={temperature}, wanted a positive number such as 0.07')
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f'labels of the bank are from {labels.min()} to {labels.max()}, '
                         f'wanted 0 to {classes - 1} for {classes} classes')


def normalize(features: Tensor) -> Tensor:
    """features (N, D) -> of length 1, in float32. Raises ValueError where one is not finite."""
    if not features.isfinite().all():
        raise ValueError('a feature is NaN or infinite: the model has diverged, or overflows in half precision')
    return F.normalize(features.float(), dim=1)


def knn_votes(similarity: Tensor, labels: Tensor, *, classes: int, temperature: float) -> Tensor:
    """similarity (B, k) and labels (B, k) of neighbors -> share of the votes for each class (B, classes)."""
    # exp(s / temperature) overflows at low temperatures; its share of the sum over the neighbors does not
    weights = (similarity / temperature).softmax(dim=1)
    return weights.new_zeros(len(weights), classes).scatter_add_(1, labels.long(), weights)


@LOOPS.register_module()
class KNNLoop(BaseLoop):
    """Classifies the images of a test (or validation) set by their nearest neighbors in a labeled bank.

    In a config, beside the usual test_dataloader::

        test_cfg = dict(type='mae_backbone.KNNLoop', bank=<config of a dataloader>, k=20, temperature=.07)
        test_evaluator = dict(type='mae_backbone.TopKAccuracy')

    The model is called with mode='tensor' and must give features (B, D); batches are dict(inputs, data_samples), the
    latter int labels. Each process extracts its share of the bank, then holds all of it, in float16. The votes go to
    the evaluator as dict(scores, label) for each image; its metrics are named `knn/...`, whatever their prefix was, or
    `knn10/...`, `knn20/...` where several k are asked for.

    Args:
        runner: of mmengine.
        dataloader: the images to classify.
        evaluator: metrics of the votes.
        bank: a dataloader, or its config, without augmentation: usually the training images.
        k: number of neighbors, or several of them, such as (10, 20, 100, 200).
        temperature: of their weights, see `knn_answers`.

    Raises:
        ValueError: there is no metric. When run: for images without labels, features that are no vectors, a bank
            without a batch, and what `knn_answers` refuses.
    """

    def __init__(self, runner: Runner, dataloader: DataLoader | dict, evaluator: Evaluator | dict | list, *,
                 bank: DataLoader | dict, k: int | Sequence[int] = 20, temperature: float = 0.07) -> None:
        super().__init__(runner, dataloader)
        self.bank = runner.build_dataloader(bank, seed=runner.seed) if isinstance(bank, dict) else bank
        self.ks, self.temperature = [k] if isinstance(k, int) else list(k), temperature
        evaluator = evaluator if isinstance(evaluator, Evaluator) else runner.build_evaluator(evaluator)
        if not evaluator.metrics:
            raise ValueError("the evaluator has no metric: set it to dict(type='mae_backbone.TopKAccuracy')")
        evaluator.dataset_meta = getattr(self.dataloader.dataset, 'metainfo', None)
        self.evaluators = {k: copy.deepcopy(evaluator) for k in self.ks}
        self.evaluator = self.evaluators[self.ks[0]]  # where MMEngine looks for one
        for k, one in self.evaluators.items():
            for metric in one.metrics:
                metric.prefix = 'knn' if len(self.ks) == 1 else f'knn{k}'

    def run(self) -> dict[str, float]:
        """Metrics by name."""
        # The Runner builds test and validation loops alike, but hooks know them by name.
        stage = 'val' if self.runner._val_loop is self else 'test'
        self.runner.call_hook(f'before_{stage}')
        self.runner.call_hook(f'before_{stage}_epoch')  # averaged weights (EMAHook) are in place from here on
        self.runner.model.eval()
        bank, labels = self.extract_bank()
        for i, batch in enumerate(self.dataloader):
            self.runner.call_hook(f'before_{stage}_iter', batch_idx=i, data_batch=batch)
            outputs = self.classify(batch, bank, labels)
            for k, evaluator in self.evaluators.items():
                evaluator.process(data_samples=outputs[k], data_batch=batch)
            self.runner.call_hook(f'after_{stage}_iter', batch_idx=i, data_batch=batch,
                                  outputs=outputs[self.ks[0]])
        metrics = {name: value for evaluator in self.evaluators.values()
                   for name, value in evaluator.evaluate(len(self.dataloader.dataset)).items()}
        self.runner.call_hook(f'after_{stage}_epoch', metrics=metrics)
        self.runner.call_hook(f'after_{stage}')
        return metrics

    def extract_bank(self) -> tuple[Tensor, Tensor]:
        """Features (M, D), normalized, and labels (M,) of the whole bank, in every process."""
        features, done, start, batches = None, 0, time.time(), len(self.bank)
        for i, batch in zip(range(1, batches + 1), self.bank, strict=False):  # samplers for training may never end
            found, true = self.extract(batch)
            if features is None:  # room for all at once: a list of parts and their sum are twice as much
                rows = batches * len(found)  # the first batch is a full one
                # Of length 1: in float16 a similarity changes by less than 0.001.
                features, labels = found.new_empty(rows, found.shape[1], dtype=torch.half), true.new_empty(rows)
            features[done:done + len(found)], labels[done:done + len(found)] = found, true
            done += len(found)
            # Not by hooks: their progress is out of the length of the test set.
            if i % max(1, batches // 10) == 0:
                left = (time.time() - start) / i * (batches - i)
                self.runner.logger.info(f'kNN bank [{i}/{batches}]  eta: {left:.0f} s')
        if features is None:
            raise ValueError(f'the bank of {len(self.bank.dataset)} images gives no batch: '
                             'set drop_last=False or a smaller batch_size in its dataloader')
        size = len(self.bank.dataset)
        bank, all_labels = gather(features[:done], size), gather(labels[:done], size)
        check_bank(bank, all_labels, classes=int(all_labels.max()) + 1, k=max(self.ks), temperature=self.temperature)
        return bank, all_labels

    @torch.no_grad()
    def extract(self, batch: dict) -> tuple[Tensor, Tensor]:
        """A batch -> features (B, D), normalized, and labels (B,)."""
        model = self.runner.model.module if is_model_wrapper(self.runner.model) else self.runner.model
        data = model.data_preprocessor(batch, False)
        features = model(**data, mode='tensor')
        if not isinstance(features, Tensor) or features.ndim != 2:
            came = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise ValueError(f"{type(model).__name__} gives {came} for mode='tensor', kNN wants features (B, D): "
                             'use mae_backbone.ViTClassifier')
        return normalize(features), _labels(data.get('data_samples'), features.device)

    def classify(self, batch: dict, bank: Tensor, labels: Tensor) -> dict[int, list[dict]]:
        """A batch, features (M, D) and labels (M,) of the bank -> for each k dict(scores=(classes,), label=int) of
        each image."""
        features, true = self.extract(batch)
        classes = int(torch.stack([labels.max(), true.max()]).max()) + 1  # a class the bank lacks is a miss, no error
        similarity, rows = nearest(features, bank, max(self.ks), unit=True)
        votes = {k: knn_votes(similarity[:, :k], labels[rows[:, :k]], classes=classes, temperature=self.temperature)
                 for k in self.ks}
        return {k: [{'scores': vote, 'label': label} for vote, label in zip(votes[k], true.tolist(), strict=True)]
                for k in self.ks}


def gather(part: Tensor, size: int, *, chunk: int = 32_768) -> Tensor:
    """Rows (M / processes, ...) of each process -> (size, ...) of all, in the order of the dataset, in every process.

    mmengine's DefaultSampler deals indices out in turn, and repeats some so that all processes have equally many: the
    repeated ones come last and are cut off. Beside both it holds `chunk` rows of each process.
    """
    if get_world_size() == 1:
        return part[:size]
    counts = torch.cat(all_gather(torch.tensor([len(part)], device=part.device)))
    everything, done, most = part.new_empty(min(size, int(counts.sum())), *part.shape[1:]), 0, int(counts.max())
    for start in range(0, most, chunk):
        rows, own = min(chunk, most - start), part[start:start + chunk]
        padded = torch.cat([own, own.new_zeros(rows - len(own), *own.shape[1:])])
        present = torch.arange(start, start + rows, device=part.device)[:, None] < counts
        found = torch.stack(all_gather(padded), dim=1)[present][:len(everything) - done]  # in turn, as dealt out
        everything[done:done + len(found)] = found
        done += len(found)
    return everything


def _labels(samples: Sequence[int | Tensor] | Tensor | None, device: torch.device) -> Tensor:
    """What the dataloader gave for the labels of a batch -> (B,)."""
    if samples is None or any(sample is None for sample in samples):
        raise ValueError('kNN needs the class of every image, of the bank and to classify: '
                         'use datasets that have labels (a folder per class)')
    return torch.as_tensor(samples, device=device).long()
