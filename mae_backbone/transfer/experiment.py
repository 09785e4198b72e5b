"""Experiment of transfer: a suite with the encoders that it evaluates."""
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mae_backbone.checkpoints.architecture import read_architecture
from mae_backbone.transfer.encoder_plan import EncoderPlan
from mae_backbone.transfer.encoder_reader import stored_reader, with_common_reader
from mae_backbone.transfer.encoders import Encoder, find_encoders
from mae_backbone.transfer.suite import Cell, Suite, cells_of
from mae_backbone.transfer.suite_configs import SuiteConfigs
from mae_backbone.transfer.task import Task
from mae_backbone.transfer.timm_encoder import timm_architecture


@dataclass(frozen=True)
class Experiment:
    """A suite with the encoders that it evaluates.

    Every checkpoint is read and hashed once, when it is first needed.

    Attributes:
        suite: tasks to run.
        encoders: encoders to evaluate, and the references that they are compared with.
        data_root: folder of the data sets.
        work_dir: output folder.
        length: factor by which the length of every training is multiplied. About 0.1 gives a quick preview of a long
            suite.
    """

    suite: Suite
    encoders: tuple[Encoder, ...]
    data_root: Path
    work_dir: Path
    length: float = 1.0

    @property
    def models(self) -> list[str]:
        """Names of the encoders. Encoders of different data sets may share a name."""
        return list(dict.fromkeys(encoder.name for encoder in self.encoders))

    @property
    def references(self) -> list[str]:
        """Names of the encoders that the others are compared with."""
        return list(dict.fromkeys(encoder.name for encoder in self.encoders if encoder.reference))

    @property
    def comparisons(self) -> list[tuple[str, str]]:
        """Pairs of names: an encoder, and a reference or peer that it is compared with.

        An encoder is compared with all references and peers, unless `against` of its entry names others. Encoders that
        are only points of a curve (`Encoder.is_point`) are not compared.
        """
        peers = list(dict.fromkeys(task.peer for task in self.suite.tasks if task.peer))
        pairs: dict[tuple[str, str], None] = {}
        for encoder in self.encoders:
            stated = encoder.entry.against if encoder.entry else None
            others = () if encoder.reference else stated if stated is not None else (
                () if encoder.is_point else [*self.references, *peers])
            pairs.update(((encoder.name, other), None) for other in others if other in [*self.models, *peers])
        return list(pairs)

    def encoder(self, model: str, data: str) -> Encoder | None:
        """Returns the encoder with the name `model` that is evaluated on the data set `data`; None if there is none."""
        return next((encoder for encoder in self.encoders if encoder.name == model and encoder.is_for(data)), None)

    @cached_property
    def configs(self) -> SuiteConfigs:
        """Reader of the configs of the suite."""
        return SuiteConfigs(self.suite.name)

    @cached_property
    def made(self) -> EncoderPlan:
        """Plan of the encoders that the suite trains itself."""
        folders = {name: self.data_folder(name) for name in self.suite.folders or self.suite.data}
        return EncoderPlan(self.suite.encoders, folders, self.work_dir, self.configs, self.length)

    @cached_property
    def architectures(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Architecture of each encoder by (name of the encoder, data set).

        An architecture is an `EncoderArchitecture` as a dict. For a model of timm it has the additional key 'timm'
        (`timm_architecture`). If the images are not color images with 8 bits, it has the key 'reader': the config of
        their reader, from the checkpoint (`with_common_reader`). The encoder `random` has the architecture of the
        first encoder of the data set whose architecture is known.

        Raises:
            ValueError: a data set has the encoder `random`, but no encoder whose architecture is known.
        """
        known = {index: architecture for index, encoder in enumerate(self.encoders)
                 if (architecture := self._architecture(encoder)) is not None}
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for data in self.suite.data:
            here = {index: encoder for index, encoder in enumerate(self.encoders) if encoder.is_for(data)}
            first = next((known[index] for index in here if index in known), None)
            named: dict[str, dict[str, Any]] = {}
            for index, encoder in here.items():
                architecture = known.get(index, first)
                if architecture is None:
                    raise ValueError(f'{encoder.name} weights on {data} have the architecture of the first encoder '
                                     'that is evaluated there, and there is none: pass --checkpoint')
                named[encoder.name] = architecture
            for name, architecture in zip(named, with_common_reader(list(named.values())), strict=True):
                found[name, data] = architecture
        return found

    def _architecture(self, encoder: Encoder) -> dict[str, Any] | None:
        """Returns the architecture of an encoder; None for `random`, which takes the architecture of another one."""
        like = encoder.entry.given.get('like') if encoder.entry else None
        if encoder.recipe or like:
            key = like or encoder.key
            entry = self.suite.encoders[key]
            if entry.recipe:
                return self.made.architecture(key)
            [encoder] = find_encoders([key], [], None, self.suite.encoders)
        if encoder.timm:
            return timm_architecture(encoder.timm)
        if not encoder.checkpoint:
            return None
        reader = stored_reader(encoder.checkpoint)
        return read_architecture(encoder.checkpoint)._asdict() | ({'reader': reader} if reader else {})

    @cached_property
    def fingerprints(self) -> dict[tuple[str, str], str]:
        """Hash of the weights of each encoder by (name of the encoder, data set)."""
        hashes = [self.made.fingerprint(encoder.key) if encoder.recipe else encoder.fingerprint
                  for encoder in self.encoders]
        return {(encoder.name, data): value for encoder, value in zip(self.encoders, hashes, strict=True)
                for data in self.suite.data if encoder.is_for(data)}

    def weights(self, encoder: Encoder) -> str | None:
        """Returns the path of the weights, or 'timm' or None as in `Encoder.weights`.

        If the suite trains the encoder, the file may not exist yet.
        """
        return str(self.made.file(encoder.key)) if encoder.recipe else encoder.weights

    def cells(self) -> list[Cell]:
        """Returns all cells in the order of the tasks. `Entry.limits` restricts the cells of an encoder."""
        return [cell for cell in cells_of(self.suite, self.models) if self._has(cell)]

    def task(self, cell: Cell) -> Task:
        """Returns the task of a cell."""
        return next(task for task in self.suite.tasks if task.name == cell.task)

    def _has(self, cell: Cell) -> bool:
        if self.task(cell).peer:
            return True
        encoder = self.encoder(cell.model, cell.data)
        limits = encoder.entry.limits if encoder and encoder.entry else {}
        return encoder is not None and all(
            value in limits.get(part, (value,))
            for part, value in (('tasks', cell.task), ('labels', cell.labels), ('seeds', cell.seed)))

    @cached_property
    def data_names(self) -> dict[str, str]:
        """Name of each data set in reports: the name of its folder, or its name in the suite if folder names repeat."""
        names = {name: self.data_folder(name).resolve().name for name in self.suite.data}
        return names if len(set(names.values())) == len(names) and all(names.values()) else {
            name: name for name in names}

    def data_folder(self, name: str) -> Path:
        """Returns the folder of a data set in --data-root.

        If the suite has only this data set and the folder does not exist, returns --data-root itself.
        """
        inside = self.data_root / (self.suite.folders or self.suite.data)[name]
        return self.data_root if list(self.suite.data) == [name] and not inside.is_dir() else inside
