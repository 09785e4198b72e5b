"""`from_pretrained`, `save_pretrained` and `push_to_hub`, with the arguments of `ModelHubMixin` of huggingface_hub.

`ModelHubMixin` itself is not used, because it needs huggingface_hub at import time. Here the package is imported only
for repositories of the hub, and not for folders and files. Nothing is downloaded unless `local_files_only=False`.
"""
import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import torch
from torch import nn

from mae_backbone.checkpoints.conversion.convert import metadata_of, versions
from mae_backbone.checkpoints.conversion.files import KEY, read_json
from mae_backbone.checkpoints.conversion.model import Origin, StoredModel
from mae_backbone.checkpoints.conversion.source import read_model
from mae_backbone.checkpoints.conversion.stored_card import card_of
from mae_backbone.checkpoints.conversion.target import Result
from mae_backbone.checkpoints.conversion.to_safetensors import SafetensorsTarget, save_tensors, to_dtype
from mae_backbone.utils.atomic_write import atomic_path, write_text

_PATTERNS = ['config.json', 'preprocessor_config.json', '*.safetensors', '*.safetensors.index.json',
             'pytorch_model*.bin*', 'README.md']
Self = TypeVar('Self', bound='HubMixin')


class HubMixin(nn.Module):
    """Base class that adds the three methods to a model. A subclass implements the first three methods below.

    Attributes:
        stored: description of the file from which the model was loaded, without weights; None if it was not loaded.
            Origin and license are kept when the model is saved.
    """

    stored: StoredModel | None = None

    def hub_arguments(self) -> dict[str, Any]:
        """Returns the arguments that build this model, as values of JSON."""
        raise NotImplementedError

    def hub_model(self, origin: Origin) -> StoredModel:
        """Returns the weights and the architecture of this model.

        Args:
            origin: origin of the weights.
        """
        raise NotImplementedError

    @classmethod
    def from_stored(cls: type[Self], model: StoredModel, path: Path, arguments: Mapping[str, Any],
                    heads: int | None) -> Self:
        """Builds a model and loads the weights at `path` into it.

        Args:
            model: model in the file at `path`.
            path: path of the file or folder.
            arguments: arguments of the class that the file does not determine.
            heads: number of attention heads; None if the user does not state it.
        """
        raise NotImplementedError

    @classmethod
    def from_pretrained(cls: type[Self], pretrained_model_name_or_path: str | Path, *, revision: str | None = None,
                        cache_dir: str | Path | None = None, token: str | bool | None = None,
                        local_files_only: bool = True, heads: int | None = None, decoder_heads: int | None = None,
                        **arguments: Any) -> Self:
        """Builds a model from a folder, a file or a repository of the Hugging Face hub, in evaluation mode.

        Args:
            pretrained_model_name_or_path: a folder that `save_pretrained` wrote; a file or folder of any layout that
                `load_encoder` reads; or the name of a repository, such as 'user/model'.
            revision: branch, tag or commit of a repository.
            cache_dir: cache folder of the hub.
            token: token of the hub, for private repositories.
            local_files_only: do not download anything. A repository is then read from the cache.
            heads, decoder_heads: numbers of attention heads, for files that do not state them.
            arguments: arguments of the class. They replace the arguments of the file.

        Raises:
            FileNotFoundError: there is no file or folder of this name, and no repository in the cache.
            CheckpointError: the file cannot be read, or does not fit the class.
            ImportError: huggingface_hub is needed, but not installed.
        """
        path = Path(pretrained_model_name_or_path)
        if not path.exists():
            path = _download(str(pretrained_model_name_or_path), revision=revision, cache_dir=cache_dir, token=token,
                             local_files_only=local_files_only)
        stored = read_model(path, heads=heads, decoder_heads=decoder_heads)
        config = read_json(path / 'config.json') if path.is_dir() else {}
        saved = config.get('arguments') if config.get('class') == cls.__name__ else None
        model = cls.from_stored(stored, path, {**(saved if isinstance(saved, dict) else {}), **arguments}, heads)
        model.stored = replace(stored, weights={}, others={})
        return model.eval()

    def save_pretrained(self, save_directory: str | Path, *, license: str | None = None,
                        repo_id: str | None = None) -> Path:
        """Writes `model.safetensors`, `config.json` and a model card into a folder. Returns the folder.

        Existing files of these names are replaced, except a model card (README.md).

        Args:
            save_directory: folder. It is created if it does not exist.
            license: license of the weights, as an identifier of the hub; None for the license of the loaded file.
            repo_id: name of the repository in the model card; None for the name of the folder.
        """
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        model = self._described(license)
        tensors = to_dtype(SafetensorsTarget().tensors(model), torch.float32)
        metadata = metadata_of(model)
        with atomic_path(folder / 'model.safetensors') as temporary:
            save_tensors(Result(tensors, {}, metadata), temporary, SafetensorsTarget.layout.name)
        config = {'library': 'mae_backbone', 'class': type(self).__name__, 'arguments': self.hub_arguments(),
                  KEY: metadata}
        write_text(folder / 'config.json', json.dumps(config, indent=2) + '\n')
        if not (folder / 'README.md').exists():
            name = type(self).__name__
            usage = f"from mae_backbone import {name}\nmodel = {name}.from_pretrained('{repo_id or folder.name}')"
            card = card_of(model, folder.name, usage, library='mae_backbone', versions=versions())
            write_text(folder / 'README.md', card.to_markdown())
        return folder

    def push_to_hub(self, repo_id: str, *, private: bool | None = None, token: str | None = None,
                    revision: str | None = None, commit_message: str = 'Upload model', create_pr: bool = False,
                    license: str | None = None) -> str:
        """Uploads the model to a repository of the Hugging Face hub.

        The repository is created if it does not exist. An existing model card is not changed.

        Args:
            repo_id: name of the repository, 'user/name'.
            private: True if a new repository is private.
            token: token of the hub; None for the token of `hf auth login`.
            revision: branch to commit to.
            commit_message: message of the commit.
            create_pr: open a pull request instead of a commit.
            license: as in `save_pretrained`.

        Returns:
            URL of the commit.

        Raises:
            ImportError: huggingface_hub is not installed.
        """
        api = _library().HfApi(token=token)
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        has_card = api.file_exists(repo_id, 'README.md', revision=revision)
        with tempfile.TemporaryDirectory() as temporary:
            folder = self.save_pretrained(Path(temporary, repo_id.split('/')[-1]), license=license, repo_id=repo_id)
            commit = api.upload_folder(repo_id=repo_id, folder_path=folder, revision=revision, create_pr=create_pr,
                                       commit_message=commit_message,
                                       ignore_patterns=['README.md'] if has_card else None)
        return str(commit.commit_url)

    def _described(self, license: str | None) -> StoredModel:
        stored = self.stored
        origin = Origin(type(self).__name__, '', 'ours') if stored is None else stored.origin
        if license:
            origin = origin._replace(license=license, license_source='save_pretrained')
        model = self.hub_model(origin)
        if stored is not None:
            model.training, model.results = stored.training, stored.results
        return model


def _download(name: str, *, revision: str | None, cache_dir: str | Path | None, token: str | bool | None,
              local_files_only: bool) -> Path:
    """Returns the folder of a repository of the hub in the cache. Downloads it if `local_files_only` is False."""
    if name.count('/') > 1 or name.startswith(('.', '/', '~')):
        raise FileNotFoundError(f'{name} does not exist: check the path')
    hub = _library()
    try:
        return Path(hub.snapshot_download(name, revision=revision, cache_dir=cache_dir, token=token,
                                          local_files_only=local_files_only, allow_patterns=_PATTERNS))
    except hub.errors.HFValidationError as error:
        raise FileNotFoundError(f'{name} does not exist here, and is no name of a repository ({error}): check the '
                                'path') from error
    except hub.errors.LocalEntryNotFoundError as error:
        if not local_files_only:
            raise FileNotFoundError(f'{name} cannot be downloaded from the Hugging Face hub ({error}): check the '
                                    'name and the network') from error
        raise FileNotFoundError(f'{name} is no file or folder here, and no repository in the cache of the Hugging '
                                'Face hub: check the path, or pass local_files_only=False to download it') from error
    except hub.errors.RepositoryNotFoundError as error:
        raise FileNotFoundError(f'the Hugging Face hub has no repository {name}, or it is private: check the name, or '
                                'pass token=') from error


def _library() -> ModuleType:
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError as error:
        raise ImportError('the Hugging Face hub needs huggingface_hub: pip install mae_backbone[hub]') from error
    return huggingface_hub
