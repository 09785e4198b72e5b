"""Options of an export, checked."""
from collections.abc import Sequence
from dataclasses import dataclass

PARTS = ('model', 'backbone', 'pyramid')
DYNAMIC = ('batch', 'size')


@dataclass(frozen=True)
class ExportOptions:
    """Options of `mae_backbone.export`, see there."""

    part: str = 'model'
    dynamic: tuple[str, ...] | None = None
    size: tuple[int, int] | None = None
    preprocessing: bool = False
    activation: str = 'logits'
    half: bool = False

    def axes(self, default: Sequence[str]) -> tuple[str, ...]:
        """The dynamic axes, or the default of a task."""
        return tuple(default) if self.dynamic is None else self.dynamic


def read_dynamic(value: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """'batch,size', 'none' or a list of names -> names in the order of `DYNAMIC`; None stays None.

    Raises:
        ValueError: an unknown name.
    """
    if value is None:
        return None
    names = [name.strip() for name in value.split(',')] if isinstance(value, str) else list(value)
    names = [name for name in names if name not in ('', 'none')]
    if not set(names) <= set(DYNAMIC):
        raise ValueError(f"dynamic={','.join(names)}: expected 'batch', 'size', 'batch,size' or 'none'")
    return tuple(name for name in DYNAMIC if name in names)


def read_size(value: int | str | Sequence[int] | None) -> tuple[int, int] | None:
    """512, '512', '512,768' or (512, 768) -> (H, W) in pixels; None stays None.

    Raises:
        ValueError: the text has another form.
    """
    if value is None:
        return None
    sides = value.split(',') if isinstance(value, str) else [value] if isinstance(value, int) else list(value)
    try:
        numbers = [int(side) for side in sides]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) not in (1, 2) or min(numbers, default=0) < 1:
        raise ValueError(f'size={value}: expected a number of pixels, or height and width such as 512,768')
    return numbers[0], numbers[-1]
