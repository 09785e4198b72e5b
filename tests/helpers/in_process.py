"""Runs what other processes would run in this one, which has imported everything already."""
from collections.abc import Iterator

from mmengine.logging import MMLogger
from mmengine.utils import ManagerMixin

from mae_backbone.transfer import worker
from mae_backbone.transfer.executors import Job


class InProcessExecutor:
    """An executor whose jobs are done when they have been submitted."""

    description = 'this process'

    def can_start(self, job: Job) -> bool:
        return True

    def submit(self, job: Job) -> 'InProcessExecutor':
        worker.work([str(folder) for folder in job.folders])
        return self

    def done(self) -> bool:
        return True

    def failure(self) -> None:
        return None

    def cancel(self) -> None: ...

    def wait(self) -> None: ...


def forget_runs() -> None:
    """Removes MMEngine's named instances of earlier runs: it warns of a second one, as of the same visualizer."""
    for logger in MMLogger._instance_dict.values():
        for handler in logger.handlers:
            handler.close()
    for cls in _subclasses(ManagerMixin):
        cls._instance_dict.clear()


def _subclasses(cls: type) -> Iterator[type]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)
