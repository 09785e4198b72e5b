"""Hook that freezes the encoder of a MAE at the start, while a new decoder is trained."""
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from mae_backbone.core.mae import MAE
from mae_backbone.registry import HOOKS


@HOOKS.register_module()
class FreezeEncoderHook(Hook):
    """Trains only the decoder in the first `iters` iterations. `model.freeze_encoder_iters=N` in a config adds it.

    While the decoder still has random weights, its gradients are not useful for a pretrained encoder. The frozen
    encoder gets no gradients, no weight decay and no moments, and its activations are not stored. The schedule of the
    learning rate is not changed. Whether the encoder is frozen depends only on the iteration, so that a resumed run
    continues bit for bit.

    Args:
        iters: number of iterations.

    Raises:
        ValueError: `iters` is negative, or is not less than the iterations of the run.
    """

    def __init__(self, iters: int) -> None:
        if iters < 0:
            raise ValueError(f'freeze_encoder_iters={iters}, expected 0 or more')
        self.iters = iters

    def before_train(self, runner: Runner) -> None:
        """Prepares the optimizer for parameters that are not to be changed."""
        if self.iters >= runner.max_iters:
            raise ValueError(f'freeze_encoder_iters={self.iters:,}, but the run has {runner.max_iters:,} iterations: '
                             'the encoder would never be trained. Set it to a part of the run, such as '
                             f'{max(1, runner.max_iters // 10):,}')
        mae = mae_of(runner.model)
        mae.zero_gradients = isinstance(runner.model, DistributedDataParallel)

        def drop_gradients(*_: object) -> None:
            if mae.encoder_frozen:
                for parameter in mae.encoder.parameters():
                    parameter.grad = None

        optimizer = runner.optim_wrapper.optimizer
        assert isinstance(optimizer, Optimizer)
        optimizer.register_step_pre_hook(drop_gradients)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Freezes or trains the encoder in this iteration."""
        mae = mae_of(runner.model)
        frozen = runner.iter < self.iters
        if frozen != mae.encoder_frozen:
            mae.encoder_frozen = frozen
            runner.logger.info(f'the encoder is frozen until iteration {self.iters:,}: only the decoder learns'
                               if frozen else 'the encoder is trained from now on')


def mae_of(model: Any) -> MAE:
    """The MAE of a pretrainer, wrapped for a distributed run or not."""
    mae: MAE = (model.module if is_model_wrapper(model) else model).mae
    return mae
