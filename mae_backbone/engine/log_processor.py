"""The log line of a pretraining, with readable numbers."""
import re

from mmengine.runner import LogProcessor, Runner

from mae_backbone.registry import LOG_PROCESSORS


@LOG_PROCESSORS.register_module()
class TrainLogProcessor(LogProcessor):
    """MMEngine's log line, which names skipped steps only if there are any."""

    def get_log_after_iter(self, runner: Runner, batch_idx: int, mode: str) -> tuple[dict, str]:
        """Returns the numbers of a log line, and the line."""
        tag, line = super().get_log_after_iter(runner, batch_idx, mode)
        return tag, line.replace('  skipped: 0.0000', '')


@LOG_PROCESSORS.register_module()
class PretrainLogProcessor(LogProcessor):
    """MMEngine's LogProcessor with numbers formatted for reading: `log_processor=dict(type=...)` in a config.

    What goes to TensorBoard and into the files is not changed. `skipped` is a fraction of the steps of the window.
    """

    def __init__(self, *, window_size: int = 50, by_epoch: bool = True,
                 mean_pattern: str = r'.*(loss|time|data_time|grad_norm|skipped).*', **options: object) -> None:
        super().__init__(window_size=window_size, by_epoch=by_epoch, mean_pattern=mean_pattern, **options)

    def get_log_after_iter(self, runner: Runner, batch_idx: int, mode: str) -> tuple[dict, str]:
        """Returns the numbers by name, and the line."""
        tag, line = super().get_log_after_iter(runner, batch_idx, mode)
        if mode != 'train':
            return tag, line
        head = re.match(r'\w+\(train\)\s*(\[[^]]*\])+', line)  # such as 'Epoch(train)   [3][ 50/313]'
        eta = re.findall(r'eta: .*?(?=  )', line)
        return tag, '  '.join([head[0] if head else '', *eta, *describe(tag)])


def describe(tag: dict[str, float]) -> list[str]:
    """Formats numbers by name, such as 'loss: 0.7312'; leaves out numbers that a reader does not need."""
    texts = [f'{name}: {form.format(tag[name])}' for name, form in _FORMS.items() if name in tag]
    if tag.get('skipped'):
        texts.append(f'skipped: {tag["skipped"]:.1%} of the steps')
    others = tag.keys() - _FORMS.keys() - {'skipped', 'epoch', 'iter', 'base_lr', 'data_time'}
    return texts + [f'{name}: {tag[name]:.4g}' for name in tag if name in others]


_FORMS = {'loss': '{:.4f}', 'lr': '{:.3e}', 'grad_norm': '{:.3g}', 'time': '{:.3g} s', 'images_per_s': '{:,.1f}',
          'waiting': '{:.0%}', 'memory': '{:,.0f} MB'}
