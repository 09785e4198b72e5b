"""Serves the page to the browsers of this machine only."""
import importlib.util
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mae_backbone.demo.feature_bank import FeatureBank
from mae_backbone.demo.uploads import MAX_MEGABYTES, MEGABYTE
from mae_backbone.prediction.model import Model
from mae_backbone.prediction.onnx.model import OnnxEncoder, OnnxModel

HOST = '127.0.0.1'
_MISSING = "the page needs the package gradio: pip install 'mae_backbone[demo]'"
KEEP_SECONDS = 3600  # of figures and files to download
_CLEAN_EVERY = 300   # seconds
_VISITS = 8          # tabs whose images are kept in memory
# The browser loads nothing from other hosts and sends nothing to them. Gradio's own scripts are inline.
POLICY = ("default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; connect-src 'self' data: blob:; "
          "frame-ancestors 'none'; form-action 'self'; base-uri 'self'")


class _Headers:
    """ASGI middleware that adds headers to every answer."""

    def __init__(self, app, headers):  # type: ignore[no-untyped-def]  # ASGI
        self.app, self.headers = app, headers

    async def __call__(self, scope, receive, send):  # type: ignore[no-untyped-def]  # ASGI
        async def add(message):  # type: ignore[no-untyped-def]  # ASGI
            if message['type'] == 'http.response.start':
                message['headers'] = [*message['headers'], *self.headers]
            await send(message)
        await self.app(scope, receive, add)


class _SameOrigin:
    """ASGI middleware that refuses requests which browsers send for the pages of other sites.

    A browser sends such a form without asking this server first. Every file in it would be stored.
    """

    def __init__(self, app):  # type: ignore[no-untyped-def]  # ASGI
        self.app = app

    async def __call__(self, scope, receive, send):  # type: ignore[no-untyped-def]  # ASGI
        headers = dict(scope.get('headers', ()))
        origin = headers.get(b'origin')
        if scope['type'] == 'lifespan' or origin is None or origin.partition(b'://')[2] == headers.get(b'host'):
            await self.app(scope, receive, send)
            return
        from starlette.responses import PlainTextResponse
        await PlainTextResponse('this page takes no requests of other sites', 403)(scope, receive, send)


@contextmanager
def serve(model: Model | OnnxModel | OnnxEncoder, *, bank: FeatureBank | None = None, port: int | None = None,
          max_megabytes: float = MAX_MEGABYTES) -> Iterator[str]:
    """Serves the page of a model, yields its address, and stops at the end of the block.

    The page listens on the loopback address. There is no public link and there are no statistics of its use, and the
    response headers forbid the browser to load anything from other hosts. Requests of other sites' pages are refused.
    Uploads are deleted once they are read.
    Figures and files to download are in a temporary folder that only the user can read. They are deleted after an hour,
    and at the end.

    Args:
        model: from `mae_backbone.load`.
        bank: images to search for neighbors.
        port: None for the first free one from 7860 on; 0 for any.
        max_megabytes: maximum size of an upload.

    Raises:
        ImportError: gradio is not installed.
        ValueError: the port is not free, or a limit that is not positive.
    """
    if not max_megabytes > 0:
        raise ValueError(f'max_megabytes={max_megabytes}, expected a number greater than 0')
    check_installed()
    with tempfile.TemporaryDirectory(prefix='mae_backbone_demo_', ignore_cleanup_errors=True) as folder, \
            gradio_environment(folder):
        from mae_backbone.demo.layout import build
        from mae_backbone.demo.page import Page

        limit = int(max_megabytes * MEGABYTE)
        files = Path(folder, 'files')
        files.mkdir()
        blocks = build(Page(model, files, bank=bank, max_bytes=limit))
        address = _launch(blocks, port=port, limit=limit)
        stop = threading.Event()
        janitor = threading.Thread(target=_clean, args=(Path(folder), stop), daemon=True)
        janitor.start()
        try:
            yield address
        finally:
            stop.set()
            blocks.close(verbose=False)
            janitor.join()


def _launch(blocks: Any, *, port: int | None, limit: int) -> str:
    """Starts the server of a page of Gradio, and returns its address.

    Args:
        blocks: page of Gradio.
        port: as in `serve`.
        limit: maximum size of an upload in bytes.

    Raises:
        ValueError: the port is not free, or the page does not answer.
    """
    from mae_backbone.demo.html import CSS
    from mae_backbone.demo.layout import theme
    try:
        _, address, _ = blocks.launch(
            server_name=HOST, server_port=any_port() if port == 0 else port, share=False, quiet=True, inbrowser=False,
            inline=False, prevent_thread_lock=True, show_error=False, footer_links=[], run_history=False,
            max_file_size=limit, ssr_mode=False, pwa=False, mcp_server=False, enable_monitoring=False,
            state_session_capacity=_VISITS, css=CSS, theme=theme(),
            app_kwargs={'middleware': _middleware(), 'docs_url': None, 'redoc_url': None})
    except OSError as error:
        raise ValueError(f'the page cannot listen on {HOST}, port {port or "7860 to 7959"} ({error}): choose '
                         'another one with --port') from error
    except ValueError as error:
        if 'localhost is not accessible' not in str(error):
            raise
        # Gradio asks itself once, and then advises a public link.
        raise ValueError(f'the page does not answer on {HOST} within 3 seconds: wait until the machine is less busy, '
                         'and check that no proxy or firewall catches its own addresses') from error
    return str(address)


def _middleware() -> list[Any]:
    """ASGI middleware that answers requests of this machine and of this page only."""
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    headers = [(b'content-security-policy', POLICY.encode()), (b'referrer-policy', b'no-referrer'),
               (b'x-content-type-options', b'nosniff'), (b'cache-control', b'no-store')]
    return [Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, 'localhost']), Middleware(_SameOrigin),
            Middleware(_Headers, headers=headers)]


def delete_old(folder: Path, seconds: float) -> None:
    """Deletes files under a folder that are older than `seconds`."""
    for path in folder.rglob('*'):
        try:
            if path.is_file() and time.time() - path.stat().st_mtime > seconds:
                path.unlink()
        except OSError:  # deleted in the meantime
            continue


def _clean(folder: Path, stop: threading.Event) -> None:
    while not stop.wait(_CLEAN_EVERY):
        delete_old(folder, KEEP_SECONDS)


@contextmanager
def gradio_environment(folder: str) -> Iterator[None]:
    """Settings of Gradio that are environment variables, for the time of a block."""
    hosts = ','.join(filter(None, [os.environ.get('NO_PROXY') or os.environ.get('no_proxy'), HOST, 'localhost']))
    settings = {'GRADIO_TEMP_DIR': folder, 'GRADIO_ANALYTICS_ENABLED': 'False', 'HF_HUB_DISABLE_TELEMETRY': '1',
                'NO_PROXY': hosts, 'no_proxy': hosts}  # Gradio asks itself whether it is up
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def any_port() -> int:
    """A free port of the loopback address."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def check_installed() -> None:
    """Raises ImportError with the command that installs gradio, if it is missing."""
    if importlib.util.find_spec('gradio') is None:
        raise ImportError(_MISSING)
