"""Packing stores every image once, with the same bytes after interruptions, and lists unreadable images."""
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.image_files import difference, jpeg, photograph, save
from PIL import Image

from mae_backbone.data import pack as pack_module
from mae_backbone.data import shard_writer
from mae_backbone.data.decode import BadImageError, decode
from mae_backbone.data.pack import Packing, pack, verify
from mae_backbone.data.shard_writer import packed_image
from mae_backbone.data.sources import open_source

TOOL = Path(__file__).parents[2] / 'tools' / 'pack.py'


@pytest.fixture
def images(tmp_path) -> Path:
    root = tmp_path / 'images'
    for label in 'ab':
        for i in range(6):
            save(root / label / f'{i}.jpg', photograph(40, 48, seed=i), quality=90)
    save(root / 'a/x.y.png', photograph(40, 48))
    save(root / 'a/0.png', photograph(20, 24))
    (root / 'b/bad.jpg').write_bytes(b'nothing')
    return root


def contents(out: Path) -> dict[str, bytes]:
    return {str(file.relative_to(out)): file.read_bytes() for file in out.rglob('*') if file.is_file()}


def unpacked(out: Path) -> dict[str, bytes]:
    found = {}
    for file in sorted(out.glob('*.tar')):
        with tarfile.open(file) as tar:
            found.update({member.name: tar.extractfile(member).read() for member in tar})
    return found


def test_every_image_is_packed_once_and_bad_ones_are_listed(images, tmp_path):
    manifest = pack(open_source(images), tmp_path / 'out', Packing(shard_size=4))
    members = unpacked(tmp_path / 'out')
    assert sorted(members) == sorted([f'{label}/{i}.jpg' for label in 'ab' for i in range(6)]
                                     + ['a/0-1.png', 'a/x_y.png'])
    assert members['a/3.jpg'] == (images / 'a/3.jpg').read_bytes()
    assert (manifest['images'], manifest['bad'], len(manifest['shards'])) == (14, 1, 4)
    assert (tmp_path / 'out/bad_images.txt').read_text().startswith(f'{images}/b/bad.jpg\tis not an image')
    packed = open_source(tmp_path / 'out')
    assert [packed.read(i) for i in range(len(packed))] == list(members.values())
    assert verify(tmp_path / 'out') == 14


def test_classes_are_stored_next_to_the_images(images, tmp_path):
    pack(open_source(images), tmp_path / 'out', Packing(classes=True))
    members = unpacked(tmp_path / 'out')
    assert (members['a/2.cls'], members['b/2.cls']) == (b'0', b'1')
    assert (tmp_path / 'out/classes.txt').read_text() == 'a\nb\n'
    assert len(members) == 28
    with pytest.raises(ValueError, match=r'is not in a class folder: omit --classes'):
        pack(open_source(images / 'a'), tmp_path / 'other', Packing(classes=True))


def test_only_larger_images_are_reduced():
    packing = Packing(short_side=32)
    for size, wanted in (((80, 100), (32, 40)), ((100, 33), (97, 32)), ((32, 90), (32, 90)), ((5, 9), (5, 9))):
        pixels = photograph(*size)
        data = jpeg(pixels, quality=95)
        packed, anew = packed_image(data, packing)
        assert decode(packed).shape[:2] == wanted
        assert anew == (size != wanted)
        assert anew or packed == data
        if anew:
            small = Image.fromarray(decode(data)).resize(wanted[::-1], Image.Resampling.BICUBIC)
            assert np.abs(decode(packed).astype(int) - np.asarray(small)).mean() < 6
    file = io.BytesIO()
    Image.fromarray(np.full((20, 30, 3), 77, np.uint8)).save(file, 'PNG')
    assert packed_image(file.getvalue(), Packing()) == (file.getvalue(), False)
    packed, anew = packed_image(file.getvalue(), packing)  # small, but no JPEG
    assert anew
    assert difference(decode(packed), np.full((20, 30, 3), 77)) <= 1
    with pytest.raises(BadImageError):
        packed_image(jpeg(photograph(20, 20))[:-9], Packing())


@pytest.mark.parametrize('options', [{}, {'short_side': 24, 'classes': True}], ids=['copied', 'smaller'])
def test_interrupted_packing_gives_the_same_bytes(images, tmp_path, monkeypatch, options):
    packing, source = Packing(shard_size=3, **options), open_source(images)
    pack(source, tmp_path / 'whole', packing)
    left = 0

    def step(original):
        def counted(*args):
            nonlocal left
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
            return original(*args)
        return counted

    for target, name in ((os, 'replace'), (shard_writer, 'packed_image')):
        monkeypatch.setattr(target, name, step(getattr(target, name)))
    interrupted = 0
    for steps in range(1, 34):
        out = tmp_path / f'out{steps}'
        for budget in (steps, steps // 2, -1):
            left = budget
            try:
                pack(source, out, packing)
            except KeyboardInterrupt:
                interrupted += 1
        assert contents(out) == contents(tmp_path / 'whole')
    assert interrupted > 40


def test_finished_shards_are_not_packed_again(images, tmp_path, monkeypatch):
    packing, source = Packing(shard_size=4), open_source(images)
    pack(source, tmp_path / 'out', packing)
    before = contents(tmp_path / 'out')
    monkeypatch.setattr(pack_module, 'write_shard', lambda *_: pytest.fail('packed again'))
    pack(source, tmp_path / 'out', packing)
    assert contents(tmp_path / 'out') == before


def test_other_settings_in_the_same_folder_raise(images, tmp_path):
    pack(open_source(images), tmp_path / 'out', Packing(shard_size=4))
    with pytest.raises(ValueError, match=r'was started with other settings \(quality=92 then and 80 now\): use'):
        pack(open_source(images), tmp_path / 'out', Packing(shard_size=4, quality=80))
    with pytest.raises(ValueError, match=r'images=15 then and 8 now'):
        pack(open_source(images / 'a'), tmp_path / 'out', Packing(shard_size=4))
    with pytest.raises(ValueError, match='is not empty and was not created by this tool'):
        pack(open_source(images), images, Packing())


def test_verify_finds_changes(images, tmp_path):
    out = tmp_path / 'out'
    with pytest.raises(ValueError, match=r'has no manifest\.json: packing is not finished'):
        verify(out)
    pack(open_source(images), out, Packing(shard_size=4))
    whole = (out / '000001.tar').read_bytes()
    (out / '000001.tar').write_bytes(whole[:700] + b'?' + whole[701:])
    (out / '000002.tar').unlink()
    with pytest.raises(ValueError, match=r'(?s)2 of 4 shards .*000001\.tar has changed.*000002\.tar.*pack again'):
        verify(out)


def test_no_readable_image_raises(tmp_path):
    (tmp_path / 'in').mkdir()
    (tmp_path / 'in/a.jpg').touch()
    with pytest.raises(ValueError, match=r'none of the 1 images could be read. .*a\.jpg is empty'):
        pack(open_source(tmp_path / 'in'), tmp_path / 'out', Packing())


@pytest.mark.parametrize('arguments', [{'short_side': 0}, {'shard_size': 0}, {'quality': 0}, {'quality': 101}], ids=str)
def test_argument_out_of_range_raises(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments)).replace('_', '-')):
        Packing(**arguments)


def start(*arguments: object) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, str(TOOL), *map(str, arguments)], text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, env={**os.environ, 'OMP_NUM_THREADS': '1'})


@pytest.mark.slow
def test_killed_command_gives_the_same_shards(images, tmp_path):
    arguments = (images, '--short-side', 24, '--shard-size', 1)
    pack(open_source(images), tmp_path / 'whole', Packing(short_side=24, shard_size=1))
    killed = start(arguments[0], tmp_path / 'out', *arguments[1:], '--workers', 2)
    deadline = time.monotonic() + 40
    while len(list((tmp_path / 'out').glob('*.tar'))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=30)
    done = start(arguments[0], tmp_path / 'out', *arguments[1:], '--workers', 2, '--verify')
    said = done.communicate(timeout=100)[0]
    assert done.returncode == 0, said
    assert contents(tmp_path / 'out') == contents(tmp_path / 'whole')
    assert 'verified: all 14 images decode' in said
    assert said.splitlines()[-1] == f'next: mae-backbone pretrain CONFIG --data-root {tmp_path / "out"}'
    manifest = json.loads((tmp_path / 'out/manifest.json').read_text())
    assert manifest['bad'] == 1


@pytest.mark.slow
def test_mistake_gives_one_message(images):
    tool = start(images, images)
    said = tool.communicate(timeout=60)[0]
    assert (tool.returncode, 'Traceback' in said) == (2, False), said
    assert 'is not empty and was not created by this tool: choose another OUT' in said
