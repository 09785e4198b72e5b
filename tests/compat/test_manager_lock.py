"""An instance of MMEngine that cannot be made, or does not exist, does not block other threads."""
import threading
from collections.abc import Callable

import pytest
from mmengine.utils import ManagerMixin, manager

from mae_backbone.compat import manager_lock


class Broken(ManagerMixin):
    def __init__(self, name: str) -> None:
        raise OSError('no space left on device')


@pytest.mark.parametrize(('call', 'error'), [
    (lambda: Broken.get_instance('one'), OSError), (lambda: Broken.get_current_instance(), RuntimeError)])
def test_another_thread_can_take_the_lock(call: Callable, error: type[Exception]):
    manager_lock.install()
    with pytest.raises(error):
        call()
    taken = []

    def take() -> None:
        if manager._lock.acquire(timeout=5):
            taken.append(True)
            manager._lock.release()

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    assert taken


@pytest.mark.parametrize('name', ['get_instance', 'get_current_instance'])
def test_it_is_installed_once(name: str):
    manager_lock.install()
    before = getattr(ManagerMixin, name).__func__
    manager_lock.install()
    assert getattr(ManagerMixin, name).__func__ is before
