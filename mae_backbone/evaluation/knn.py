"""k-nearest-neighbor classification on frozen features, without training."""
import copy
import logging
import time
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.dist import all_gather, get_world_size
from mmengine.evaluator import Evaluator
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, Runner
from torch import Tensor
from torch.utils.data import DataLoader

from mae_backbone.evaluation.feature_extractor import forward_batch, labels_of
from mae_backbone.registry import LOOPS

KS = (10, 20, 100, 200)  # as in DINO


def knn_predict(features: Tensor, bank: Tensor, labels: Tensor, *, num_classes: int, k: int = 20,
                temperature: float = 0.07, chunk: int = 1024) -> Tensor:
    """Predicts classes (N,) by k nearest neighbors. Arguments and errors as in `knn_predictions`, for one k."""
    return knn_predictions(features, bank, labels, num_classes=num_classes, ks=[k], temperature=temperature,
                           chunk=chunk)[k]


def knn_predictions(features: Tensor, bank: Tensor, labels: Tensor, *, num_classes: int, ks: Sequence[int] = KS,
                    temperature: float = 0.07, chunk: int = 1024, bank_chunk: int = 32_768) -> dict[int, Tensor]:
    """Predicts classes by k nearest neighbors, for several k in one pass over the bank.

    Neighbors are the nearest by cosine similarity. A neighbor of similarity s votes with weight exp(s / temperature)
    (Wu et al., CVPR 2018, section 3.4; k and temperature as in DINO, Caron et al., ICCV 2021, section 4.1). Besides
    its arguments, which may be float16 and memory-mapped, it holds chunk * bank_chunk similarities, 134 MB.

    Args:
        features: (N, D), on the device to compute on. The bank is copied there chunk by chunk.
        bank: (M, D) features of labeled images.
        labels: (M,) classes of the bank.
        num_classes: above every label.
        ks: numbers of neighbors, each from 1 to M.
        temperature: of the votes, above 0.
        chunk, bank_chunk: features and bank features compared at a time; the result does not depend on them.

    Returns:
        For each k the predicted classes (N,).

    Raises:
        ValueError: shapes or labels that do not fit, a feature that is not finite, k above M, or a temperature <= 0.
    """
    for k in ks:
        check_bank(bank, labels, num_classes=num_classes, k=k, temperature=temperature)
    if features.ndim != 2 or features.shape[1] != bank.shape[1]:
        raise ValueError(f'features are {tuple(features.shape)}, expected (N, {bank.shape[1]}) like the bank')
    labels = labels.to(features.device)
    predictions: dict[int, list[Tensor]] = {k: [] for k in ks}
    for rows in features.split(chunk):
        similarity, neighbors = nearest(normalize(rows), bank, max(ks), chunk=bank_chunk)
        for k in ks:
            votes = knn_votes(similarity[:, :k], labels[neighbors[:, :k]], num_classes=num_classes,
                              temperature=temperature)
            predictions[k].append(votes.argmax(dim=1))
    return {k: torch.cat(chunks) for k, chunks in predictions.items()}


def nearest(features: Tensor, bank: Tensor, k: int, *, chunk: int = 32_768,
            unit: bool = False) -> tuple[Tensor, Tensor]:
    """Finds the k nearest neighbors by cosine similarity.

    The bank is normalized a chunk at a time: a copy of 1.3 million features of width 768 would take 4 GB.

    Args:
        features: (B, D) of length 1.
        bank: (M, D).
        k: number of neighbors; fewer are returned if M is smaller.
        chunk: features of the bank compared at a time.
        unit: the bank is of length 1 already.

    Returns:
        Similarities (B, k), the highest first, and indices (B, k) of the bank.
    """
    similarity = features.new_empty(len(features), 0)
    neighbors = similarity.long()
    for start in range(0, len(bank), chunk):
        rows = bank[start:start + chunk].to(features.device)
        rows = rows.float() if unit else normalize(rows)
        highest, index = (features @ rows.T).topk(min(k, len(rows)), dim=1)
        similarity = torch.cat([similarity, highest], dim=1)
        neighbors = torch.cat([neighbors, index + start], dim=1)
        similarity, order = similarity.topk(min(k, similarity.shape[1]), dim=1)
        neighbors = neighbors.gather(1, order)
    return similarity, neighbors


def check_bank(bank: Tensor, labels: Tensor, *, num_classes: int, k: int, temperature: float) -> None:
    """Raises ValueError if k neighbors cannot be looked up in bank (M, D) with labels (M,)."""
    if bank.ndim != 2 or labels.shape != bank.shape[:1]:
        raise ValueError(f'the bank is {tuple(bank.shape)} with labels {tuple(labels.shape)}, expected (M, D) and (M,)')
    if not 1 <= k <= len(bank):
        raise ValueError(f'k={k} neighbors of a bank of {len(bank)} images: '
                         f'choose k from 1 to {len(bank)}, or a larger bank')
    if temperature <= 0:
        raise ValueError(f'temperature={temperature}, expected a positive number such as 0.07')
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(f'labels of the bank are from {labels.min()} to {labels.max()}, '
                         f'expected 0 to {num_classes - 1} for {num_classes} classes')


def normalize(features: Tensor) -> Tensor:
    """Scales features (N, D) to length 1, in float32. Raises ValueError if one is not finite."""
    if not features.isfinite().all():
        raise ValueError('a feature is NaN or infinite: the model has diverged, or overflows in half precision')
    return F.normalize(features.float(), dim=1)


def knn_votes(similarity: Tensor, labels: Tensor, *, num_classes: int, temperature: float) -> Tensor:
    """similarity (B, k), labels (B, k) of neighbors -> fraction of the votes for each class (B, num_classes)."""
    # exp(s / temperature) overflows at low temperatures; its fraction of the sum over the neighbors does not.
    weights = (similarity / temperature).softmax(dim=1)
    return weights.new_zeros(len(weights), num_classes).scatter_add_(1, labels.long(), weights)


@LOOPS.register_module()
class KNNLoop(BaseLoop):
    """Test or validation loop that classifies images by their nearest neighbors in a labeled bank.

    In a config, next to the usual test_dataloader::

        test_cfg = dict(type='mae_backbone.KNNLoop', bank=<config of a dataloader>, k=20, temperature=.07)
        test_evaluator = dict(type='mae_backbone.TopKAccuracy')

    The model is called with mode='tensor' and must return features (B, D). Batches are dict(inputs, data_samples), the
    latter int labels. Each process extracts its fraction of the bank, then holds the whole bank in float16. The votes
    are passed to the evaluator as dict(scores, label) per image. Metrics are named `knn/...` for one k and
    `knn10/...`, `knn20/...` for several, and lose the prefix that they had.

    Args:
        runner: of MMEngine.
        dataloader: of the images to classify.
        evaluator: metrics of the votes.
        bank: a dataloader or its config, without augmentation: usually the training images.
        k: number of neighbors, or several of them, such as (10, 20, 100, 200). A k above the size of the bank is
            lowered to it, with a warning; the metrics carry the lowered number.
        temperature: of the votes, see `knn_predictions`.

    Raises:
        ValueError: the evaluator has no metric, or k is below 1. When run: images without labels, features that are not
            vectors, a bank without a batch, and the errors of `knn_predictions`.
    """

    def __init__(self, runner: Runner, dataloader: DataLoader | dict, evaluator: Evaluator | dict | list, *,
                 bank: DataLoader | dict, k: int | Sequence[int] = 20, temperature: float = 0.07) -> None:
        super().__init__(runner, dataloader)
        self.bank = runner.build_dataloader(bank, seed=runner.seed) if isinstance(bank, dict) else bank
        self.ks, self.temperature = [k] if isinstance(k, int) else list(k), temperature
        if min(self.ks, default=0) < 1:
            raise ValueError(f'k={k} neighbors: choose 1 or more')
        self.evaluator = evaluator if isinstance(evaluator, Evaluator) else runner.build_evaluator(evaluator)
        if not self.evaluator.metrics:
            raise ValueError("the evaluator has no metric: set it to dict(type='mae_backbone.TopKAccuracy')")
        self.evaluator.dataset_meta = getattr(self.dataloader.dataset, 'metainfo', None)

    def run(self) -> dict[str, float]:
        """Returns metrics by name."""
        # The Runner builds test and validation loops alike, but hooks know them by name.
        stage = 'val' if self.runner._val_loop is self else 'test'
        self.runner.call_hook(f'before_{stage}')
        self.runner.call_hook(f'before_{stage}_epoch')  # averaged weights (EMAHook) are in place from here on
        self.runner.model.eval()
        bank, labels = self.extract_bank()
        ks = clamp_ks(self.ks, len(bank))
        check_bank(bank, labels, num_classes=int(labels.max()) + 1, k=max(ks), temperature=self.temperature)
        evaluators = {k: copy.deepcopy(self.evaluator) for k in ks}
        for k, evaluator in evaluators.items():
            for metric in evaluator.metrics:
                metric.prefix = 'knn' if len(self.ks) == 1 else f'knn{k}'
        for i, batch in enumerate(self.dataloader):
            self.runner.call_hook(f'before_{stage}_iter', batch_idx=i, data_batch=batch)
            outputs = self.classify(batch, bank, labels, ks)
            for k, evaluator in evaluators.items():
                evaluator.process(data_samples=outputs[k], data_batch=batch)
            self.runner.call_hook(f'after_{stage}_iter', batch_idx=i, data_batch=batch, outputs=outputs[ks[0]])
        metrics = {name: value for evaluator in evaluators.values()
                   for name, value in evaluator.evaluate(len(self.dataloader.dataset)).items()}
        self.runner.call_hook(f'after_{stage}_epoch', metrics=metrics)
        self.runner.call_hook(f'after_{stage}')
        return metrics

    def extract_bank(self) -> tuple[Tensor, Tensor]:
        """Extracts normalized features (M, D) float16 and labels (M,) of the whole bank, in every process."""
        features, done, start, num_batches = None, 0, time.time(), len(self.bank)
        size = len(self.bank.dataset)  # type: ignore[arg-type]  # torch's Dataset declares no __len__
        for i, batch in zip(range(1, num_batches + 1), self.bank, strict=False):  # samplers for training may never end
            rows, classes = self.extract(batch)
            if features is None:  # allocated once: a list of batches and their concatenation take twice as much
                capacity = num_batches * len(rows)  # the first batch is a full one
                # Of length 1: in float16 a similarity changes by less than 0.001.
                features = rows.new_empty(capacity, rows.shape[1], dtype=torch.half)
                labels = classes.new_empty(capacity)
            features[done:done + len(rows)], labels[done:done + len(rows)] = rows, classes
            done += len(rows)
            # Not logged by hooks: they compute their progress from the length of the test set.
            if i % max(1, num_batches // 10) == 0:
                eta = (time.time() - start) / i * (num_batches - i)
                self.runner.logger.info(f'kNN bank [{i}/{num_batches}]  eta: {eta:.0f} s')
        if features is None:
            raise ValueError(f'the bank of {size} images gives no batch: '
                             'set drop_last=False or a smaller batch_size in its dataloader')
        return gather(features[:done], size), gather(labels[:done], size)

    def extract(self, batch: dict) -> tuple[Tensor, Tensor]:
        """A batch -> normalized features (B, D), labels (B,)."""
        model = self.runner.model
        # Unwrapped: DistributedDataParallel synchronizes buffers, and waits for processes that have fewer batches.
        model = model.module if is_model_wrapper(model) else model
        features, labels = forward_batch(model, batch, mode='tensor'), labels_of(batch)
        if not isinstance(features, Tensor) or features.ndim != 2:
            shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise ValueError(f"{type(model).__name__} returns {shape} for mode='tensor', kNN expects features (B, D): "
                             'use mae_backbone.ViTClassifier')
        if labels is None:
            raise ValueError('kNN needs the class of every image, of the bank and of the images to classify: '
                             'use datasets that have labels (a folder per class)')
        return normalize(features), labels.to(features.device)

    def classify(self, batch: dict, bank: Tensor, labels: Tensor, ks: Sequence[int]) -> dict[int, list[dict]]:
        """Classifies a batch by bank (M, D) with labels (M,).

        Returns:
            For each k a list of dict(scores=(num_classes,), label=int), one per image.
        """
        features, true = self.extract(batch)
        # A class that the bank lacks is an error of the prediction, not of the program.
        num_classes = int(torch.stack([labels.max(), true.max()]).max()) + 1
        similarity, neighbors = nearest(features, bank, max(ks), unit=True)
        votes = {k: knn_votes(similarity[:, :k], labels[neighbors[:, :k]], num_classes=num_classes,
                              temperature=self.temperature) for k in ks}
        return {k: [{'scores': scores, 'label': label} for scores, label in zip(votes[k], true.tolist(), strict=True)]
                for k in ks}


def clamp_ks(ks: Sequence[int], bank_size: int) -> list[int]:
    """Lowers each k to the number of images in the bank, once each, and warns if that changes one."""
    clamped = [*dict.fromkeys(min(k, bank_size) for k in ks)]
    if clamped != [*ks]:
        print_log(f'k={", ".join(map(str, ks))} neighbors, but the bank has {bank_size} images: '
                  f'k={", ".join(map(str, clamped))} is used', logger='current', level=logging.WARNING)
    return clamped


def gather(rows: Tensor, size: int, *, chunk: int = 32_768) -> Tensor:
    """Gathers rows that were dealt out to processes in turn, in the order of the data set, in every process.

    MMEngine's DefaultSampler deals out indices in turn, and repeats some so that all processes have equally many. The
    repeated ones come last and are cut off. Besides input and result it holds `chunk` rows of each process.

    Args:
        rows: (M / world size, ...), the rows of this process.
        size: number of rows of all processes.

    Returns:
        (size, ...).
    """
    if get_world_size() == 1:
        return rows[:size]
    counts = torch.cat(all_gather(torch.tensor([len(rows)], device=rows.device)))
    gathered, done, longest = rows.new_empty(min(size, int(counts.sum())), *rows.shape[1:]), 0, int(counts.max())
    for start in range(0, longest, chunk):
        length, own = min(chunk, longest - start), rows[start:start + chunk]
        padded = torch.cat([own, own.new_zeros(length - len(own), *own.shape[1:])])
        present = torch.arange(start, start + length, device=rows.device)[:, None] < counts
        block = torch.stack(all_gather(padded), dim=1)[present][:len(gathered) - done]  # in turn, as dealt out
        gathered[done:done + len(block)] = block
        done += len(block)
    return gathered
