"""The line of the log of a pretraining: each number with the digits that it is worth."""
import re

from mmengine.runner import LogProcessor, Runner

from mae_backbone.registry import LOG_PROCESSORS


@LOG_PROCESSORS.register_module()
class PretrainLogProcessor(LogProcessor):
    """MMEngine's, with its numbers written for people: in a config `log_processor=dict(type=...)`.

    What goes to TensorBoard and into the files is as it was; `skipped` is a share of the steps of the window.
    """

    def __init__(self, *, window_size: int = 50, by_epoch: bool = True,
                 mean_pattern: str = r'.*(loss|time|data_time|grad_norm|skipped).*', **options: object) -> None:
        super().__init__(window_size=window_size, by_epoch=by_epoch, mean_pattern=mean_pattern, **options)

    def get_log_after_iter(self, runner: Runner, batch_idx: int, mode: str) -> tuple[dict, str]:
        """The numbers by name, and the line."""
        tag, line = super().get_log_after_iter(runner, batch_idx, mode)
        if mode != 'train':
            return tag, line
        head = re.match(r'\w+\(train\)\s*(\[[^]]*\])+', line)[0]  # such as 'Epoch(train)   [3][ 50/313]'
        eta = re.findall(r'eta: .*?(?=  )', line)
        return tag, '  '.join([head, *eta, *describe(tag)])


def describe(tag: dict[str, float]) -> list[str]:
    """Numbers by name -> 'loss: 0.7312' and so on; what is not known is left out."""
    parts = [f'{name}: {form.format(tag[name])}' for name, form in _FORMS.items() if name in tag]
    if tag.get('skipped'):
        parts.append(f'skipped: {tag["skipped"]:.1%} of the steps')
    others = tag.keys() - _FORMS.keys() - {'skipped', 'epoch', 'iter', 'base_lr', 'data_time'}
    return parts + [f'{name}: {tag[name]:.4g}' for name in tag if name in others]


_FORMS = {'loss': '{:.4f}', 'lr': '{:.3e}', 'grad_norm': '{:.3g}', 'time': '{:.3g} s', 'images_per_s': '{:,.1f}',
          'waiting': '{:.0%}', 'memory': '{:,.0f} MB'}
