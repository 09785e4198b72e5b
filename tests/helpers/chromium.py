"""Headless Chromium, driven by the DevTools protocol through two pipes: no package is needed."""
import base64
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PROGRAM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome', 'chrome'))), None)
MISSING = ('pipes are inherited on POSIX only' if sys.platform == 'win32' else
           None if PROGRAM else 'needs Chromium on the PATH')


class Chromium:
    """A browser with one tab, as a context manager.

    Args:
        width, height: of the window in pixels.
    """

    def __init__(self, width: int = 1280, height: int = 900) -> None:
        self.width, self.height = width, height
        self.requests: list[str] = []  # addresses that the page has asked for
        self._next, self._buffer = 0, b''

    def __enter__(self) -> 'Chromium':
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        from_here, self._to = os.pipe()
        self._from, to_here = os.pipe()
        # The browser reads commands from file 3 and writes answers to file 4.
        script = f'exec 3<&{from_here} 4>&{to_here}; exec "$0" "$@"'
        self._process = subprocess.Popen(
            ['bash', '-c', script, str(PROGRAM), '--headless=new', '--remote-debugging-pipe', '--no-sandbox',
             '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run', '--hide-scrollbars', '--disable-extensions',
             '--disable-background-networking', '--use-fake-ui-for-media-stream', '--use-fake-device-for-media-stream',
             f'--window-size={self.width},{self.height}', f'--user-data-dir={self._profile.name}', 'about:blank'],
            pass_fds=(from_here, to_here), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        os.close(from_here)
        os.close(to_here)
        self._session = None
        targets = self.send('Target.getTargets')['targetInfos']
        target = next(one['targetId'] for one in targets if one['type'] == 'page')
        self._session = self.send('Target.attachToTarget', targetId=target, flatten=True)['sessionId']
        for domain in ('Page', 'Runtime', 'DOM', 'Network'):
            self.send(f'{domain}.enable')
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._to)
        os.close(self._from)
        self._profile.cleanup()

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Sends a command and returns its result."""
        self._next += 1
        content: dict[str, Any] = {'id': self._next, 'method': method, 'params': parameters}
        if self._session:
            content['sessionId'] = self._session
        os.write(self._to, json.dumps(content).encode() + b'\0')
        while True:
            answer = self._receive(30)
            if answer.get('id') == self._next:
                assert 'error' not in answer, f'{method}: {answer["error"]}'
                return answer['result']

    def _receive(self, seconds: float) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while b'\0' not in self._buffer:
            assert select.select([self._from], [], [], max(end - time.monotonic(), 0))[0], 'Chromium does not answer'
            data = os.read(self._from, 1 << 16)
            assert data, 'Chromium has ended'
            self._buffer += data
        text, _, self._buffer = self._buffer.partition(b'\0')
        message = json.loads(text)
        if message.get('method') == 'Network.requestWillBeSent':
            self.requests.append(message['params']['request']['url'])
        return message

    def foreign(self, address: str) -> list[str]:
        """Addresses that the page has asked for, other than its own."""
        return [one for one in self.requests if not one.startswith((address, 'data:', 'blob:', 'about:'))]

    def open(self, address: str) -> None:
        """Opens a page."""
        self.send('Page.navigate', url=address)

    def evaluate(self, expression: str) -> Any:
        """Value of a JavaScript expression."""
        result = self.send('Runtime.evaluate', expression=expression, returnByValue=True, awaitPromise=True)
        assert 'exceptionDetails' not in result, result['exceptionDetails']
        return result['result'].get('value')

    def wait(self, expression: str, seconds: float = 60) -> None:
        """Waits until an expression is true; one that raises, as its element does not exist yet, is not."""
        end = time.monotonic() + seconds
        while not self.evaluate(f'(() => {{ try {{ return !!({expression}); }} catch {{ return false; }} }})()'):
            assert time.monotonic() < end, f'{expression} is not true after {seconds} s'
            time.sleep(0.05)

    def upload(self, selector: str, *files: Path) -> None:
        """Chooses files in an input."""
        root = self.send('DOM.getDocument')['root']['nodeId']
        node = self.send('DOM.querySelector', nodeId=root, selector=selector)['nodeId']
        self.send('DOM.setFileInputFiles', files=[str(file) for file in files], nodeId=node)

    def open_tab(self, name: str) -> None:
        """Opens a tab of Gradio by its label."""
        self.evaluate(f"[...document.querySelectorAll('[role=tab]')].find(tab => tab.innerText == '{name}').click()")

    def click(self, x: float, y: float) -> None:
        """Clicks a point of the window."""
        for kind in ('mousePressed', 'mouseReleased'):
            self.send('Input.dispatchMouseEvent', type=kind, x=x, y=y, button='left', clickCount=1)

    def screenshot(self, path: Path, *, width: int | None = None) -> None:
        """Writes a PNG of the whole page, at a width of the window in pixels."""
        width = width or self.width
        self.send('Emulation.setDeviceMetricsOverride', width=width, height=self.height, deviceScaleFactor=1,
                  mobile=width < 600)
        time.sleep(0.5)  # the layout follows the width
        size = self.send('Page.getLayoutMetrics')['cssContentSize']
        data = self.send('Page.captureScreenshot', captureBeyondViewport=True,
                         clip={'x': 0, 'y': 0, 'width': size['width'], 'height': size['height'], 'scale': 1})['data']
        path.write_bytes(base64.b64decode(data))
