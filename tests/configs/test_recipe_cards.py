"""Heads and top-level names of the files in configs/."""
import ast
import functools
import re
from collections.abc import Iterator

import pytest
from helpers.config_files import CONFIGS, FILES, ROOT, load, read

from mae_backbone.cli.config import RUN_KEYS, check_keys
from mae_backbone.cli.main import COMMANDS
from mae_backbone.core.vit import ViT
from mae_backbone.models.backbone import ViTBackbone
from mae_backbone.utils.config_files import find_config

every_config = pytest.mark.parametrize('file', CONFIGS)


@every_config
def test_head_is_a_recipe_card(file: str):
    card = ast.get_docstring(ast.parse((ROOT / file).read_text()))
    entries = dict(re.findall(r'^(Run|Data|Expect) +(.+(?:\n .+)*)', card, flags=re.M))
    assert entries.keys() == {'Run', 'Data', 'Expect'}
    commands = re.findall(r'mae-backbone (\w+) (\S+)', entries['Run'])
    commands += re.findall(r'tools/(\w+)\.py\s+(configs/\S+\.py)', entries['Run'])
    assert {command for command, _ in commands} <= COMMANDS.keys()
    assert {find_config(config).resolve() for _, config in commands} == {ROOT / file}
    if '/demo/' not in file:
        assert 'Ours: ' in entries['Expect'], 'the card does not say whether we measured it'


def unread_names(source: str, inherited: frozenset[str] = frozenset()) -> set[str]:
    """Top-level names of a config that neither the Runner, nor the file itself, nor a file that inherits it reads."""
    tree = ast.parse(source)
    assigned = {target.id for node in tree.body if isinstance(node, ast.Assign) for target in node.targets}
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    return assigned - used - RUN_KEYS - inherited - {'_base_'}


@functools.cache
def inherited_names() -> frozenset[str]:
    return frozenset(name for file in FILES for name in re.findall(r'\b_base_\.(\w+)', (ROOT / file).read_text()))


@pytest.mark.parametrize('file', FILES)
def test_every_top_level_name_is_read(file: str):
    assert not unread_names((ROOT / file).read_text(), inherited_names())


def test_unread_names_are_detected():
    source = 'size = 3\nmodel = dict(size=size)\ndefualt_hooks = dict()\nold = size'
    assert unread_names(source) == {'defualt_hooks', 'old'}


def test_every_base_is_inherited():
    bases = {name for file in FILES for name in re.findall(r"'(?:\./|\.\./)+(?:_base_/)?(?:\w+/)?([\w.-]+\.py)'",
                                                           (ROOT / file).read_text())}
    assert [file for file in FILES if '/_base_/' in file and file.split('/')[-1] not in bases] == []


@every_config
def test_tools_accept_the_keys(file: str):
    check_keys(load(file), {})


@every_config
def test_two_checkpoints_are_kept(file: str):
    """MMEngine deletes the oldest checkpoint before it writes the next."""
    assert read(file).default_hooks.checkpoint.get('max_keep_ckpts', -1) != 1


@every_config
def test_metrics_are_logged_at_their_iteration(file: str):
    cfg = read(file)
    if (cfg.get('train_cfg') or {}).get('type') == 'IterBasedTrainLoop' and cfg.get('val_cfg') is not None:
        assert cfg.default_hooks.logger.get('log_metric_by_epoch') is False, 'all would be logged at epoch 0'


def values(node: object, key: str) -> Iterator[object]:
    """All values under a key of a config."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == key:
                yield value
            yield from values(value, key)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from values(value, key)


@every_config
def test_all_labels_are_used_by_default(file: str):
    """A fraction of the labels is a choice of the user: `--labels 0.1`."""
    assert [fraction for fraction in values(read(file)._cfg_dict, 'fraction') if fraction != 1] == []


@pytest.mark.parametrize('file', [file for file in CONFIGS if '-micro' in file or '-nano' in file])
def test_number_of_parameters_is_the_number_of_the_vit(file: str):
    title = (ROOT / file).read_text().splitlines()[0]
    stated = re.search(r'([\d.]+) M parameter', title)
    model = load(file).model
    if stated and not str((model.get('backbone') or {}).get('type')).endswith('TimmViT'):
        settings = {name: value for name, value in (model.get('backbone') or model.encoder).items()
                    if name not in ('type', 'init_cfg')}
        vit = ViTBackbone(**settings) if 'backbone' in model else ViT(**settings, fixed_positions=True)
        assert f'{sum(parameter.numel() for parameter in vit.parameters()) / 1e6:.1f}' == stated[1]
