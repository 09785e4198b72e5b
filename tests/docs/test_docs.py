"""Documentation: what it says exists, parses, runs and links."""
import argparse
import importlib
import re
import sys
from functools import lru_cache
from pathlib import Path

import pytest
from helpers.doc_blocks import (
    NEEDS,
    PAGES,
    ROOT,
    anchors,
    blocks,
    braces,
    commands,
    inline_code,
    links,
    prose,
    shell_lines,
)
from mmengine.config import Config

from mae_backbone import registry
from mae_backbone.utils.config_files import find_config, is_checkpoint

PLACEHOLDERS = {'CONFIG', 'quick', 'few-labels', 'small-sets', 'evidence', 'paper'}
# Configs that `mae-backbone plan` writes for data of these names.
PLANNED = {'my_voc.py', 'my_voc_pretrain.py', 'nuclei.py', 'camvid.py'}
FOREIGN_OPTIONS = {'--help', '--no-build-isolation', '--nodes'}  # of argparse, pip and Slurm
PROGRAMS = {'python', 'mae-backbone', 'ruff', 'mypy', 'lint-imports', 'mkdocs', 'torchrun', 'export', 'srun',
            'scontrol', '.', '['}
every_page = pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)


def snippets(page: Path) -> list:
    """Blocks of Python that need nothing."""
    return [block for block in blocks(page) if block.language == 'python' and not block.needs]


@lru_cache
def parser_of(command: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=command, exit_on_error=False)
    importlib.import_module(f'mae_backbone.cli.{command}').add_options(parser)
    return parser


@lru_cache
def config_of(name: str) -> Config:
    return Config.fromfile(find_config(name))


def names_a_config(args: argparse.Namespace) -> bool:
    """Whether CONFIG is the name of a config, and not a placeholder or a checkpoint."""
    config = getattr(args, 'config', 'CONFIG')
    return config not in PLACEHOLDERS | PLANNED and not is_checkpoint(config)


@every_page
def test_commands_parse_and_their_configs_exist(page):
    for place, name, options in commands(page):
        try:
            args = parser_of(name).parse_args(options)
        except (SystemExit, argparse.ArgumentError) as error:
            pytest.fail(f'{place}: {name} {" ".join(options)}: {error}')
        if names_a_config(args):
            assert find_config(args.config).is_file(), place


@every_page
def test_cfg_options_name_settings_that_the_config_has(page):
    for place, name, options in commands(page):
        args = parser_of(name).parse_args(options)
        if not names_a_config(args):
            continue
        for option in getattr(args, 'cfg_options', None) or []:
            key = option.split('.')[0].split('=')[0]
            assert key in {*config_of(args.config), 'tta', 'val_dtype', 'model_wrapper_cfg'}, f'{place}: {option}'


@every_page
def test_named_checkpoints_are_kept_by_the_run(page):
    runs = {}
    for place, name, options in commands(page):
        for word in options:
            folder, _, file = word.rpartition('/')
            if folder in runs and file.endswith('.pth'):
                assert file in kept_checkpoints(runs[folder]), f'{place}: {word}'
        if name in ('pretrain', 'train'):
            args = parser_of(name).parse_args(options)
            if args.work_dir:
                runs[args.work_dir] = config_of(args.config)


def kept_checkpoints(cfg: Config) -> list[str]:
    """Files that a run of a config leaves."""
    hook, loop = cfg.default_hooks.checkpoint, cfg.train_cfg
    by_epoch = hook.get('by_epoch', True)
    last = loop.max_epochs if by_epoch else loop.max_iters
    numbers = [*range(hook.interval, last, hook.interval), last]
    kept = numbers[-hook.max_keep_ckpts:] if hook.get('max_keep_ckpts', -1) > 0 else numbers
    return [f'{"epoch" if by_epoch else "iter"}_{number}.pth' for number in kept]


@every_page
def test_blocks_say_what_they_need_in_known_words_and_name_known_programs(page):
    for block in blocks(page):
        assert block.needs in NEEDS | {''}, block.place
        assert block.language in ('bash', 'python', 'text'), block.place
        if block.language == 'bash':
            for words in shell_lines(block):
                assert words[0].split('=')[0] in PROGRAMS, f'{block.place}: {words}'


@pytest.mark.parametrize('page', [page for page in PAGES if snippets(page)], ids=lambda page: page.name)
def test_python_snippets_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'path', [*sys.path])
    names = {}
    for block in snippets(page):
        exec(compile('\n' * block.line + block.text, str(block.page), 'exec'), names)  # lines as in the page
    assert names.keys() > {'__builtins__'}, 'the snippets define nothing'


@every_page
def test_paths_in_the_text_exist(page):
    for code in inline_code(page):
        for word in code.split():
            if re.match(r'(configs|tools|tests|mae_backbone|docs)/', word):
                for path in braces(word.rstrip(',;:')):
                    assert (ROOT / path).exists() or path == 'tools/COMMAND.py', f'{page.name}: {path}'


@every_page
def test_named_tests_exist(page):
    text = page.read_text(encoding='utf-8')
    for file, keyword in re.findall(r'(tests/\S+?\.py)`?(?: -k (\w+))?', text):
        assert keyword in ''.join(re.findall(r'def (test_\w+)', (ROOT / file).read_text(encoding='utf-8'))), \
            f'{page.name}: {file} -k {keyword}'


@every_page
def test_options_in_the_text_exist(page):
    known = {option for name in importlib.import_module('mae_backbone.cli.main').COMMANDS
             for option in option_strings(parser_of(name))}
    for code in inline_code(page):
        if code.startswith('--'):
            option = re.split(r'[ =]', code)[0]
            assert option in known | FOREIGN_OPTIONS, f'{page.name}: {code}'


def test_table_of_options_equals_the_commands():
    names = [name for name in importlib.import_module('mae_backbone.cli.main').COMMANDS
             if any(action.dest == 'config' for action in parser_of(name)._actions)]
    table = (ROOT / 'docs/your_data.md').read_text(encoding='utf-8')
    rows = re.findall(r'^\| `(--[\w-]+)[^|]*(?:\\\|[^|]*)*\| ([^|]+) \|', table, re.M)
    assert len(rows) > 6
    for option, commands_with_it in rows:
        stated = names if commands_with_it == 'all' else commands_with_it.split(', ')
        assert [name for name in stated if option not in option_strings(parser_of(name))] == [], option


def option_strings(parser: argparse.ArgumentParser) -> set[str]:
    options = {option for option, action in parser._option_string_actions.items() if action.help != argparse.SUPPRESS}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            options |= {option for child in action.choices.values() for option in option_strings(child)}
    return options


@every_page
def test_names_of_the_package_exist(page):
    text = page.read_text(encoding='utf-8')
    for room in ('detection', 'segmentation'):  # they register what mmdet and mmseg build on
        importlib.import_module(f'mae_backbone.{room}')
    registries = [value for value in vars(registry).values() if hasattr(value, 'module_dict')]
    for name in set(re.findall(r'mae_backbone\.([A-Z]\w+)', text)):
        assert name == 'X' or any(f'mae_backbone.{name}' and node.get(name) for node in registries), \
            f'{page.name}: mae_backbone.{name}'
    for name in set(re.findall(r'(?:::: |`)(mae_backbone(?:\.\w+)+)', text)):
        if name not in ('mae_backbone.X',) and not re.match(r'mae_backbone\.[A-Z]', name):
            assert is_there(name), f'{page.name}: {name}'


def is_there(name: str) -> bool:
    module, attributes = name, []
    while module:
        try:
            thing = importlib.import_module(module)
            break
        except ModuleNotFoundError:
            module, _, attribute = module.rpartition('.')
            attributes.insert(0, attribute)
    for attribute in attributes:
        thing = getattr(thing, attribute, None)
    return thing is not None


@every_page
def test_links_lead_somewhere(page):
    for link in links(page):
        if link.startswith('https://'):
            continue
        file, _, anchor = link.partition('#')
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), f'{page.name}: {link}'
        assert not anchor or anchor in anchors(target), f'{page.name}: {link}'


@every_page
def test_extras_exist(page):
    known = re.findall(r"^        '(\w+)': \[", (ROOT / 'setup.py').read_text(encoding='utf-8'), re.M)
    for extras in re.findall(r'"\.\[([\w,]+)\]"', page.read_text(encoding='utf-8')):
        assert set(extras.split(',')) <= set(known), f'{page.name}: {extras}'


def test_readme_is_short_and_has_both_commands():
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    assert len(text.splitlines()) <= 150
    assert 'python -m pip install -e . && python tools/quickstart.py' in text
    assert 'python -m pip install -e ".[test]" && python -m pytest' in text


def test_pictures_are_small_used_and_local():
    used = {(page.parent / link).resolve() for page in PAGES for link in links(page)
            if re.search(r'\.(png|jpg|svg)$', link)}
    files = set((ROOT / 'docs/assets').iterdir())
    assert used == files
    assert all(file.stat().st_size < 600_000 for file in files)


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / 'mkdocs.yml').read_text(encoding='utf-8')
    for page in (ROOT / 'docs').glob('*.md'):
        assert f': {page.name}' in navigation, page.name


def test_layers_are_those_of_the_contract():
    layers = re.search(r'^layers = \[(.*?)^\]', (ROOT / 'pyproject.toml').read_text(encoding='utf-8'), re.M | re.S)[1]
    text = (ROOT / 'docs/architecture.md').read_text(encoding='utf-8')
    assert '\n'.join(re.findall(r'"(.+?)"', layers)) in text


def test_systems_that_were_not_tried_are_named():
    text = prose(ROOT / 'docs/install.md')
    for system in ('NVIDIA GPU', 'MPS', 'macOS', 'Windows', 'Slurm'):
        assert re.search(rf'{system}.*not tried', text), system
