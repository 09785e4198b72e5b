"""The page in a browser: a prediction appears, and files that cannot be read give a message."""
import asyncio
import importlib.util
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
import urllib.error
import urllib.request
import warnings
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from helpers.chromium import MISSING, Chromium
from helpers.commands import refused
from helpers.model_files import CLASSES, write_checkpoint
from helpers.onnx_files import classifier, describe

from mae_backbone.cli.main import main
from mae_backbone.demo import page, server

IMAGE = np.random.default_rng(0).integers(0, 256, (48, 72, 3), dtype=np.uint8)
NO_GRADIO = importlib.util.find_spec('gradio') is None
in_browser = pytest.mark.skipif(NO_GRADIO or MISSING is not None, reason=MISSING or 'needs gradio: pip install '
                                'mae_backbone[demo]')
MEGABYTES = 0.2


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('files')
    (folder / 'bank').mkdir()
    for name in ('image.png', 'bank/same.png'):
        cv2.imwrite(str(folder / name), IMAGE[..., ::-1])
    (folder / 'broken.png').write_bytes(b'no image')
    (folder / 'large.png').write_bytes(bytes(10**6))
    cv2.imwrite(str(folder / 'pixels.png'), np.zeros((1200, 1000), np.uint8))
    return folder


@pytest.fixture(scope='module')
def tab(folder, tmp_path_factory):
    """A tab with the page of a detector, which stays open: every test opens it again."""
    checkpoint = write_checkpoint('detection', tmp_path_factory.mktemp('model'))
    temporary = tmp_path_factory.mktemp('temporary')
    # A process of its own, as Gradio leaves event loops and sockets open. It is forked, and imports nothing again.
    port = server.any_port()
    process = multiprocessing.get_context('fork').Process(
        target=run_demo, args=(checkpoint, folder / 'bank', port, temporary), daemon=True)
    process.start()
    address = f'http://127.0.0.1:{port}/'
    try:
        wait_for(address, process)
        with Chromium() as browser:
            yield browser, address
            assert not browser.foreign(address)
        assert [*temporary.iterdir()]
    finally:
        os.kill(process.pid, signal.SIGINT)
        process.join(30)
        process.kill()
    assert process.exitcode == 0
    assert not [*temporary.iterdir()]  # nothing is stored


def run_demo(checkpoint: Path, bank: Path, port: int, temporary: Path) -> None:
    warnings.resetwarnings()
    warnings.simplefilter('ignore')
    os.environ.update(MAE_BACKBONE_MAX_PIXELS='1e6', TMPDIR=str(temporary))
    tempfile.tempdir = None
    sys.exit(main(['demo', str(checkpoint), '--port', str(port), '--bank', str(bank), '--device', 'cpu',
                   '--max-megabytes', str(MEGABYTES)]))


def wait_for(address: str, process: multiprocessing.Process, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                assert "connect-src 'self'" in answer.headers['content-security-policy']
                return
        except urllib.error.URLError:
            assert process.is_alive(), 'the page has ended'
            assert time.monotonic() < end, 'the page does not start'
            time.sleep(0.1)


def upload(browser: Chromium, address: str, file: Path) -> None:
    browser.open(address)
    browser.wait("document.querySelector('#image input[type=file]') && "
                 "document.querySelector('#message').innerText.includes('Upload an image')")
    browser.upload('#image input[type=file]', file)


@in_browser
@pytest.mark.slow  # a server and a browser
def test_a_prediction_appears_and_follows_the_threshold(tab, folder):
    browser, address = tab
    upload(browser, address, folder / 'image.png')
    browser.wait("document.querySelector('#message').innerText.includes('image.png: 72 x 48 pixels')")
    browser.wait("document.querySelector('#prediction img')?.naturalWidth > 0")
    browser.wait("document.querySelector('#legend').innerText.includes('object')")
    assert any(name in browser.evaluate("document.querySelector('#legend').innerText") for name in CLASSES['detection'])
    browser.evaluate("""{const input = document.querySelector('#threshold input[type=number]'); input.value = 1;
                        input.dispatchEvent(new Event('input', {bubbles: true}));
                        input.dispatchEvent(new Event('change', {bubbles: true})); input.blur();}""")
    browser.wait("document.querySelector('#legend').innerText.includes('0 objects')")
    browser.open_tab('Neighbors')
    browser.wait("document.querySelector('#neighbors')?.innerText.includes('same.png')")
    browser.open_tab('Attention')
    browser.wait("document.querySelector('#attention img')?.naturalWidth > 0")
    before = browser.evaluate("document.querySelector('#attention img').src")
    left, top = json.loads(browser.evaluate("""{const box = document.querySelector('#attention img')
        .getBoundingClientRect(); JSON.stringify([box.left, box.top])}"""))
    browser.click(left + 3, top + 30)
    browser.wait(f"document.querySelector('#attention img').src != {json.dumps(before)}")


@in_browser
@pytest.mark.slow  # a server and a browser
@pytest.mark.parametrize(('name', 'words'), [
    ('broken.png', 'broken.png is not an image'), ('pixels.png', 'states 1200x1000 pixels'),
    ('large.png', 'exceed the maximum allowed size of 204.8 Kb: "large.png"')], ids=['broken', 'pixels', 'bytes'])
def test_files_that_cannot_be_read_give_a_message(tab, folder, name, words):
    browser, address = tab
    upload(browser, address, folder / name)
    browser.wait(f"document.body.innerText.includes({json.dumps(words)})")
    assert 'Traceback' not in browser.evaluate('document.body.innerText')
    assert not browser.evaluate("!!document.querySelector('#prediction img')")


def test_the_page_needs_gradio(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    assert "the page needs the package gradio: pip install 'mae_backbone[demo]'" in refused('demo', tmp_path / 'a.pth')


@pytest.mark.parametrize(('options', 'message'), [
    (['--port', '0'], "'0': expected a port from 1 to 65535"), (['--save-bank', 'a.safetensors'], 'pass --bank FOLDER'),
    (['--bank', '.', '--save-bank', 'no/a.safetensors'], 'no/a.safetensors: the folder does not exist: create it'),
    (['--bank', '.', '--save-bank', 'a.npz'], 'a.npz: the file of a feature bank ends in .safetensors'),
    ([], 'a.pth does not exist')])
def test_wrong_options_are_refused(options, message, tmp_path, monkeypatch):
    monkeypatch.setattr(server, 'check_installed', lambda: None)
    assert message in refused('demo', tmp_path / 'a.pth', *options)


@pytest.mark.parametrize(('description', 'options', 'message'), [
    (describe('classification'), ['--bank', '.'], '--bank needs features'),
    (describe('features', part='backbone', classes=()), [], 'only with --bank FOLDER')])
def test_exported_files_say_what_the_page_needs(description, options, message, tmp_path, monkeypatch):
    monkeypatch.setattr(server, 'check_installed', lambda: None)
    path = classifier(tmp_path / 'a.onnx', description.to_metadata())
    assert message in refused('demo', path, *options)


@pytest.mark.parametrize(('origin', 'host', 'status'), [
    (None, '127.0.0.1:7860', 200), ('http://127.0.0.1:7860', '127.0.0.1:7860', 200),
    ('http://localhost:9000', 'localhost:9000', 200), ('https://example.org', '127.0.0.1:7860', 403),
    ('http://127.0.0.1:80', '127.0.0.1:7860', 403), ('null', '127.0.0.1:7860', 403)])
def test_a_form_of_another_site_is_refused(origin, host, status):
    """Browsers send it without asking the server first: each file would be stored."""
    pytest.importorskip('starlette')
    sent = []

    async def app(scope, receive, send):
        await send({'type': 'http.response.start', 'status': 200, 'headers': []})

    async def send(message):
        sent.append(message)
    headers = [(b'host', host.encode()), *([] if origin is None else [(b'origin', origin.encode())])]
    asyncio.run(server._SameOrigin(app)({'type': 'http', 'headers': headers}, None, send))
    assert sent[0]['status'] == status


def test_a_page_that_does_not_answer_gives_no_advice_about_public_links(monkeypatch):
    """Such as on a busy machine. Gradio is not started, as it leaves event loops and sockets open."""
    pytest.importorskip('starlette')

    def launch(**_):
        raise ValueError('When localhost is not accessible, a shareable link must be created. Please set share=True.')
    layout = SimpleNamespace(build=lambda _: SimpleNamespace(launch=launch), theme=lambda: None)
    monkeypatch.setitem(sys.modules, 'mae_backbone.demo.layout', layout)
    monkeypatch.setattr(page, 'Page', lambda *_, **__: None)
    monkeypatch.setattr(server, 'check_installed', lambda: None)
    with pytest.raises(ValueError, match='the page does not answer on'), server.serve(None):
        pass


def test_old_files_are_deleted(tmp_path):
    (tmp_path / 'inner').mkdir()
    for name, age in (('old.png', 100), ('inner/old.json', 100), ('inner/new.json', 1)):
        (tmp_path / name).write_bytes(b'')
        os.utime(tmp_path / name, (time.time() - age, time.time() - age))
    server.delete_old(tmp_path, 50)
    assert [path.name for path in tmp_path.rglob('*.*')] == ['new.json']


def test_the_environment_is_afterwards_as_before(monkeypatch):
    monkeypatch.setenv('NO_PROXY', 'example.org')
    before = dict(os.environ)
    with server.gradio_environment('/folder'):
        assert os.environ['GRADIO_TEMP_DIR'] == '/folder'
        assert os.environ['NO_PROXY'] == 'example.org,127.0.0.1,localhost'
    assert dict(os.environ) == before
