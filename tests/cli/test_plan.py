"""`mae-backbone plan`: its configs are trained as they are."""
import errno
from pathlib import Path

import cv2
import pytest
from helpers.layouts import write_voc
from helpers.own_sets import write_boxes, write_classes, write_images, write_maps
from mmengine.config import Config

import mae_backbone
from mae_backbone.cli.main import main
from mae_backbone.cli.python_api import unchanged_process
from mae_backbone.planning.adapt_config import adapt_classes, replace_data_root


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv('MAE_BACKBONE_CACHE', str(tmp_path / 'cache'))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> int:
    with unchanged_process():
        return main([*map(str, arguments)])


def train(command: str, config: str, *loaders: str) -> None:
    """Trains one iteration, without processes that load data."""
    options = [f'{loader}_dataloader.{key}' for loader in loaders
               for key in ('num_workers=0', 'persistent_workers=False')]
    assert run(command, config, '--iters', '1', '--cfg-options', *options) == 0


@pytest.fixture(scope='module')
def encoder(tmp_path_factory) -> Path:
    """Checkpoint of a planned pretraining, of one iteration."""
    root = tmp_path_factory.mktemp('pretraining')
    write_images(root / 'data', 8)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv('MAE_BACKBONE_CACHE', str(root / 'cache'))
        assert run('plan', 'data', '--estimate', '--hours', '0.01', '-o', 'own.py') == 0
        assert not Path('own_pretrain.py').exists()
        train('pretrain', 'own.py', 'train')
    return root / 'work_dirs/own/iter_1.pth'


def train_from(encoder: Path) -> None:
    """Trains one iteration of own.py, with the pretraining that it names in place."""
    named = Path(Config.fromfile('own.py').model.backbone.init_cfg.checkpoint)
    assert named.name == f'iter_{Config.fromfile("own_pretrain.py").train_cfg.max_iters}.pth'
    named.parent.mkdir(parents=True)
    named.symlink_to(encoder)
    train('train', 'own.py', 'train', 'val')
    assert Path('work_dirs/own/iter_1.pth').exists()


@pytest.mark.slow
def test_masks_measured_planned_and_trained(folder, encoder, capsys):
    write_boxes(folder / 'data', train=8, val=3, size=(80, 64), per_image=3, side=16)
    assert run('plan', 'data', '--hours', '0.01', '-o', 'own.py') == 0
    said = capsys.readouterr().out
    assert 'masks: yes: all objects have a mask [Mask R-CNN' in said
    assert 'detection: an iteration of 4 images takes' in said
    assert 'next: mae-backbone pretrain own_pretrain.py' in said
    assert 'crop: 64 | ' in Path('own.py').read_text()
    page = Path('own.html').read_text()
    assert 'source of the rule' in page
    assert page.count('data:image/jpeg') == 8
    train_from(encoder)


@pytest.mark.slow
def test_label_maps(folder, encoder):
    write_maps(folder / 'data', train=6, val=2, rare=0.03)
    assert run('plan', 'data', '--hours', '0.01', '-o', 'own.py', '--estimate') == 0
    train_from(encoder)


@pytest.mark.parametrize('moved', [False, True])
def test_class_weights_of_a_plan_are_those_of_the_training(folder, moved):
    write_maps(folder / 'data', train=6, val=2, rare=0.03)
    Path('data/classes.txt').write_text('air\nwater\nbuoy\n', encoding='utf-8')  # other names than in the base
    assert run('plan', 'data', '-o', 'own.py', '--estimate') == 0
    cfg = Config.fromfile('own.py')
    planned = cfg.model.decode_head.loss_decode.class_weight
    assert planned[2] > 1
    with unchanged_process():
        if moved:
            replace_data_root(cfg, 'data')
        adapt_classes(cfg)
    assert cfg.model.decode_head.loss_decode.class_weight == planned
    assert len(cfg.val_dataloader.dataset.metainfo.palette) == 3


@pytest.mark.slow
def test_class_folders(folder, encoder):
    write_classes(folder / 'data', train=6, val=3, size=(100, 80))
    assert run('plan', 'data', '--hours', '0.01', '-o', 'own.py', '--estimate') == 0
    assert Config.fromfile('own.py').model.num_classes == 3
    train_from(encoder)


def test_boxes_without_masks(folder):
    write_boxes(folder / 'data', train=6, val=2, masks=False)
    assert run('plan', 'data', '-o', 'own.py', '--estimate') == 0
    cfg = Config.fromfile('own.py')
    assert cfg.model.type == 'FasterRCNN'
    assert 'mask' not in str(cfg.train_pipeline)


def test_config_of_pascal_voc_reads_the_folder_itself(folder):
    write_voc(folder / 'data')
    assert run('plan', 'data', '-o', 'own.py', '--estimate') == 0
    cfg = Config.fromfile('own.py')
    assert str(folder / 'cache') not in Path('own.py').read_text()
    with unchanged_process():
        lines = adapt_classes(cfg)
    assert any('Pascal VOC' in line for line in lines)
    assert cfg.model.roi_head.bbox_head.num_classes == 2
    assert Path(cfg.train_dataloader.dataset.ann_file).is_file()
    assert cfg.val_evaluator.ann_file == cfg.val_dataloader.dataset.ann_file


def test_unlabeled_images_are_listed_with_those_of_training(folder):
    write_boxes(folder / 'data', train=5)
    write_images(folder / 'more', 4, seed=8)
    assert run('plan', 'data', '--unlabeled', 'more', '--estimate', '-o', 'own.py') == 0
    paths = Path('own_images.txt').read_text().splitlines()
    assert len(paths) == 9
    assert all(Path(path).is_file() for path in paths)
    assert Config.fromfile('own_pretrain.py').train_dataloader.dataset.data_root == str(folder / 'own_images.txt')


def test_overwrite_leaves_no_files_of_the_earlier_plan(folder):
    write_boxes(folder / 'data', train=5)
    write_images(folder / 'more', 4, seed=8)
    assert run('plan', 'data', '--unlabeled', 'more', '--estimate', '-o', 'own.py') == 0
    assert run('plan', 'more', '--task', 'pretraining', '--estimate', '-o', 'own.py', '--overwrite') == 0
    assert sorted(path.name for path in folder.glob('own*')) == ['own.html', 'own.py']


def test_images_of_validation_are_not_in_the_list_of_the_pretraining(folder):
    write_boxes(folder / 'data', train=5, val=3)
    write_images(folder / 'data/more', 4, seed=8)
    assert run('plan', 'data', '--unlabeled', 'data', '--estimate', '-o', 'own.py') == 0
    paths = Path('own_images.txt').read_text().splitlines()
    assert len(paths) == 9
    assert not [path for path in paths if '/val/' in path]


@pytest.mark.parametrize('name', ['own.py', 'own_pretrain.py', 'own_images.txt', 'own.html'])
def test_a_full_disk_leaves_no_part_of_a_plan(folder, monkeypatch, capsys, name):
    write_boxes(folder / 'data', train=5, val=3)
    write_images(folder / 'more', 4, seed=8)
    command = ['plan', 'data', '--unlabeled', 'more', '--estimate', '-o', 'own.py']
    with monkeypatch.context() as patch:
        write = Path.write_bytes

        def fail_for_one_file(path: Path, content: bytes) -> int:
            write(path, content[:10])
            if path.name.startswith(f'.{name}.'):
                raise OSError(errno.ENOSPC, 'No space left on device')
            return write(path, content)
        patch.setattr(Path, 'write_bytes', fail_for_one_file)
        assert run(*command) == 2
    assert f'{name}' in capsys.readouterr().err
    assert not [path for path in folder.iterdir() if 'own' in path.name]
    assert run(*command) == 0


def test_a_plan_of_before_is_kept(folder, capsys):
    write_images(folder / 'data', 3)
    assert run('plan', 'data', '--estimate') == 0
    assert Path('data.py').is_file()
    assert run('plan', 'data', '--estimate') == 2
    assert 'data.py exists: write the plan to another file with -o FILE' in capsys.readouterr().err
    assert run('plan', 'data', '--estimate', '--overwrite') == 0


@pytest.mark.parametrize(('options', 'message'), [
    (['nowhere'], 'does not exist'),
    (['data', '--hours', '0'], 'expected a number greater than 0'),
    (['data', '-o', 'plan.txt'], 'expected a name that ends in .py'),
    (['data', '-o', 'no/plan.py'], 'no is not a folder'),
    (['data', '--task', 'detection'], 'has no data for detection'),
    (['data', '--pretrained', 'missing.pth'], 'missing.pth'),
    (['data', '--unlabeled', 'none'], 'none'),
])
def test_mistakes_end_in_one_message(folder, capsys, options, message):
    write_images(folder / 'data', 2)
    assert run('plan', *options, '--estimate') == 2
    said = capsys.readouterr().err
    assert message in said
    assert 'Traceback' not in said


def test_python_api(folder):
    write_images(folder / 'data', 4)
    written = mae_backbone.plan('data', hours=0.01, estimate=True, out='own.py')
    assert written.config == Path('own.py')
    assert written.plan.training.task == 'pretraining'
    assert written.fingerprint.num_train == 4


def test_a_plan_lists_warnings_about_labels_and_refuses_what_training_refuses(folder, capsys):
    write_images(folder / 'data/images', 4)
    (folder / 'data/labels.csv').write_text('id,label\n0000,red\n')
    assert run('plan', 'data', '--estimate') == 0
    assert 'warning: labels.csv was not used: its columns are id, label' in capsys.readouterr().out
    assert 'labels.csv was not used' in Path('data.html').read_text()
    write_maps(folder / 'maps')
    path = str(folder / 'maps/annotations/validation/0001.png')
    cv2.imwrite(path, cv2.imread(path, cv2.IMREAD_UNCHANGED)[::2, ::2])
    assert run('plan', 'maps', '--estimate') == 2
    assert 'have another size than their image' in capsys.readouterr().err
    assert not Path('maps.py').exists()
