"""Measures the trainings of a plan, and writes its configs and its report."""
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from shlex import quote

from mae_backbone.cli.errors import log_rank0
from mae_backbone.planning.config_text import config_text, list_text
from mae_backbone.planning.fingerprint import Fingerprint
from mae_backbone.planning.machine import Machine
from mae_backbone.planning.own_data import OwnData, unlabeled_images
from mae_backbone.planning.plan import Plan, PlanOptions, Stage, StepCost, WrittenPlan
from mae_backbone.planning.plan_report import report_page
from mae_backbone.utils.atomic_write import atomic_path, write_text

_MOST = {'pretraining': 256, 'classification': 256}  # largest batch that is tried, in images; 16 for other tasks


class Writer:
    """Files of a plan: NAME.py, NAME_pretrain.py and a list of its images, NAME.html.

    Args:
        data: data set that the plan is made for.
        config: file of the config of the training.
        unlabeled: folder of further images for the pretraining.
        overwrite: replace files that exist.

    Raises:
        ValueError: a file exists, and `overwrite` is False.
        OSError: the folder does not exist.
    """

    def __init__(self, data: OwnData, config: Path, *, unlabeled: str | None, overwrite: bool) -> None:
        self.data, self.config, self.unlabeled = data, config, unlabeled
        self.pretraining_config = config if data.task == 'pretraining' else config.with_stem(f'{config.stem}_pretrain')
        self.report = config.with_suffix('.html')
        self.image_list = config.with_name(f'{config.stem}_images.txt')
        existing = [path for path in (config, self.pretraining_config, self.report, self.image_list)
                    if path.exists()]
        if existing and not overwrite:
            raise ValueError(f'{existing[0]} exists: write the plan to another file with -o FILE, or replace it with '
                             '--overwrite')
        if not config.parent.is_dir():
            raise OSError(f'{config.parent} is not a folder: make it first, or write the plan elsewhere with -o FILE')

    def measured_plan(self, fingerprint: Fingerprint, machine: Machine, options: PlanOptions, *,
                      estimate: bool) -> Plan:
        """Makes a plan, runs iterations of its trainings, and makes the plan again with their costs."""
        from mae_backbone.planning.make_plan import make_plan  # after the fingerprint: timm takes 0.2 GB
        draft = make_plan(fingerprint, machine, options)
        if estimate:
            return draft
        from mae_backbone.cli.trial_step import measure_step
        costs: dict[str, StepCost] = {}
        with tempfile.TemporaryDirectory() as folder:
            for stage in draft.stages:
                name = 'pretrain_step' if stage.task == 'pretraining' else 'train_step'
                file, image_list = Path(folder, f'{name}.py'), Path(folder, 'images.txt')
                write_text(file, self._text(draft, stage, image_list))
                write_text(image_list, list_text(self._listed_images), errors='surrogateescape')
                costs[name] = measure_step(file, memory=machine.memory, most=_MOST.get(stage.task, 16))
                cost = costs[name]
                log_rank0(f'{stage.task}: an iteration of {cost.batch} images takes {cost.seconds:.3g} s and '
                          f'{cost.memory / 2**30:.2f} GB')
        return make_plan(fingerprint, machine, replace(options, **costs))  # type: ignore[arg-type]  # of these names

    def write(self, plan: Plan, fingerprint: Fingerprint, machine: Machine) -> WrittenPlan:
        """Writes all files, or none of them if one cannot be written."""
        texts = {self._file(stage): self._text(plan, stage, self.image_list) for stage in plan.stages}
        if plan.stage('pretraining') is not None and (images := self._listed_images):
            texts[self.image_list] = list_text(images)
        texts[self.report] = report_page(plan, fingerprint, machine, self.data, self.commands(plan))
        with ExitStack() as renames:
            for path, text in texts.items():
                renames.enter_context(atomic_path(path)).write_bytes(text.encode(errors='surrogateescape'))
        for path in {self.config.with_stem(f'{self.config.stem}_pretrain'), self.image_list} - texts.keys():
            path.unlink(missing_ok=True)  # of the plan that is replaced, which had a pretraining
        pretrains = plan.stage('pretraining') is not None and plan.training.task != 'pretraining'
        return WrittenPlan(self.config, self.pretraining_config if pretrains else None, self.report, plan, fingerprint)

    def commands(self, plan: Plan) -> list[str]:
        """Commands that run the plan, one after the other."""
        lines = []
        pretraining = plan.stage('pretraining')
        if pretraining is not None:
            lines.append(f'mae-backbone pretrain {quote(str(self._file(pretraining)))} --amp')
        if plan.training.task != 'pretraining':
            best = f'{quote(f"work_dirs/{self.config.stem}")}/best_*.pth'
            config = quote(str(self.config))  # it names the data, and how images are grouped in a made split
            lines += [f'mae-backbone train {config} --amp', f'mae-backbone test {config} {best}',
                      f'mae-backbone predict {best} IMAGES -o predictions']
        return [f'{word} {line}' for word, line in zip(('next:', *['then:'] * 3), lines, strict=False)]

    def _file(self, stage: Stage) -> Path:
        return self.pretraining_config if stage.task == 'pretraining' else self.config

    def _text(self, plan: Plan, stage: Stage, image_list: Path) -> str:
        pretraining = plan.stage('pretraining')
        checkpoint = None
        if stage.task != 'pretraining' and pretraining is not None:
            checkpoint = f'work_dirs/{self.pretraining_config.stem}/iter_{pretraining.iterations}.pth'
        images = str(image_list.absolute()) if self._listed_images else _common_folder(self.data.image_paths('train'))
        return config_text(plan, stage, self.data, file=str(self._file(stage)), pretrained=checkpoint,
                           train_images=images if stage.task == 'pretraining' else '')

    @cached_property
    def _listed_images(self) -> list[str]:
        """Images of the pretraining, without images of other splits; empty if they are all images of a folder."""
        paths = self.data.image_paths('train')
        if self.unlabeled is None:
            return [] if set(unlabeled_images(_common_folder(paths))) == set(paths) else paths
        others = {path for split in self.data.splits if split != 'train' for path in self.data.image_paths(split)}
        return list(dict.fromkeys([*paths, *(path for path in unlabeled_images(self.unlabeled)
                                             if path not in others)]))


def _common_folder(paths: list[str]) -> str:
    return os.path.commonpath({os.path.dirname(path) for path in paths})


def progress_bar() -> Callable[[str, int, int], None]:
    """Shows what is measured, the files done and their total on a terminal."""
    def show(what: str, done: int, total: int) -> None:
        if sys.stderr.isatty() and total:
            filled = 30 * done // total
            print(f'\r{what.rsplit(" ", 1)[0]:<12} [{"#" * filled}{" " * (30 - filled)}] {done:,}/{total:,}',
                  end='\n' * (done == total), file=sys.stderr, flush=True)
    return show
