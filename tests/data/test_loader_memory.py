"""Memory of a data loader with workers does not grow over epochs."""
import json
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import loader_memory
from helpers.image_files import photograph, save

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != 'linux', reason='memory is read from /proc')]


@pytest.mark.parametrize('persistent', [True, False])
def test_memory_does_not_grow_over_epochs(tmp_path: Path, persistent: bool, record_property):
    """In a process of its own: workers copy the pages of what earlier tests left in this one, at any moment."""
    for i in range(96):
        save(tmp_path / f'{i}.jpg', photograph(60 + i, 90, seed=i), quality=90)
    (tmp_path / 'empty.jpg').touch()
    command = [sys.executable, loader_memory.__file__, str(tmp_path), str(persistent)]
    held = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    record_property('megabytes', [round(value / 2**20, 1) for value in held])
    assert len(held) == 20
    assert statistics.median(held[12:]) < 1.02 * statistics.median(held[4:12]) + 2**20
