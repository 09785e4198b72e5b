"""Plan of the encoders that a suite trains itself: the spec and the job of each encoder."""
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mae_backbone.transfer import experiment_dir
from mae_backbone.transfer.data_files import describe_files
from mae_backbone.transfer.executors import Job
from mae_backbone.transfer.experiment_dir import Spec
from mae_backbone.transfer.recipe import Entry, Recipe, encoder_file, encoder_folder, with_starts
from mae_backbone.transfer.suite_configs import SuiteConfigs


class EncoderPlan:
    """Specs, folders and jobs of the encoders that a suite trains itself.

    Methods take the key of an encoder in `Suite.encoders`.

    Args:
        entries: `Suite.encoders`.
        folders: folder of each data set.
        work_dir: output folder.
        configs: reader of the configs.
        factor: factor by which the length of every training is multiplied.
    """

    def __init__(self, entries: Mapping[str, Entry], folders: Mapping[str, Path], work_dir: Path, configs: SuiteConfigs,
                 factor: float) -> None:
        self.entries, self.folders, self.work_dir = entries, folders, work_dir
        self.configs, self.factor = configs, factor
        self._fingerprints: dict[str, str] = {}

    def same_as(self, key: str) -> str:
        """Returns the first key with the same recipe. Encoders with equal recipes are trained once."""
        mine = self.fingerprint(key)
        return next(other for other, entry in self.entries.items() if entry.recipe and self.fingerprint(other) == mine)

    def file(self, key: str) -> Path:
        """Path of the weights of an encoder. The file exists only after the training of the encoder."""
        return encoder_file(self.folder(key))

    def folder(self, key: str) -> Path:
        """Folder of the training of an encoder. Encoders with equal recipes share it."""
        return (self.work_dir / encoder_folder(self.same_as(key))).resolve()

    def recipe(self, key: str) -> Recipe:
        """Returns the recipe of an encoder."""
        recipe = self.entries[key].recipe
        assert recipe is not None, f'{key} has no recipe'
        return recipe

    def architecture(self, key: str) -> dict[str, Any]:
        """Architecture of an encoder, an `EncoderArchitecture` as a dict, with 'reader' as in `Experiment`."""
        recipe = self.recipe(key)
        reader = self.configs.reader(recipe.config, recipe.options)
        return self.configs.architecture(recipe.config, recipe.options)._asdict() | (
            {'reader': reader} if reader else {})

    def spec(self, key: str) -> Spec:
        """Returns the spec of an encoder: all settings that determine its weights."""
        recipe = self.recipe(key)
        read = self.configs.read(recipe.config)
        length = self.configs.length(recipe.config, recipe.length, self.factor)
        images = (self.folders[recipe.data] / recipe.folder).resolve()
        return {'kind': 'encoder', 'command': recipe.command, 'config': recipe.config, 'config_print': read.fingerprint,
                'options': dict(recipe.options), 'data_root': str(images), 'seed': recipe.seed,
                'start': self.fingerprint(recipe.start) if recipe.start else None,
                **({'length': length} if length else {}), **({'amp': True} if recipe.amp else {})}

    def fingerprint(self, key: str) -> str:
        """Hash of the spec of an encoder. It is used instead of a hash of the weights, which may not exist yet."""
        if key not in self._fingerprints:
            content = json.dumps(self.spec(key), sort_keys=True)
            self._fingerprints[key] = f'made:{hashlib.sha256(content.encode()).hexdigest()}'
        return self._fingerprints[key]

    def jobs(self, keys: Iterable[str]) -> dict[str, Job]:
        """Writes the specs of the encoders `keys` and of the encoders that they start from.

        Returns:
            Job of each encoder by `same_as(key)`. The job of an encoder comes after the job of the encoder that it
            starts from.

        Raises:
            ValueError: a folder of images does not exist, or a folder contains an encoder with another spec.
        """
        jobs = {}
        for key in dict.fromkeys(map(self.same_as, with_starts(list(keys), self.entries))):
            recipe, folder, spec = self.recipe(key), self.folder(key), self.spec(key)
            if not Path(spec['data_root']).is_dir():
                raise ValueError(f'the encoder {key} of the suite is made from images in {spec["data_root"]}, which '
                                 'does not exist: check --data-root')
            start = self.file(recipe.start) if recipe.start else None
            # Not in `spec`, which determines `fingerprint`: earlier results would be refused.
            files = describe_files(Path(spec['data_root']), self.work_dir)
            experiment_dir.write_spec(folder, spec | {experiment_dir.FILES: files}, {
                'config': str(self.configs.read(recipe.config).path), 'name': key, 'start': start and str(start)})
            after = (self.folder(recipe.start),) if recipe.start else ()
            jobs[key] = Job(f'encoder-{key.replace("/", "-")}', (folder,), after=after)
        return jobs
