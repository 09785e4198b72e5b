"""A worker of transfer that runs a stub in place of mae-backbone: `python stub_worker.py ROOT FOLDER ...`."""
import os
import sys

from mae_backbone.transfer import worker
from mae_backbone.utils.subprocesses import end_with_parent

if __name__ == '__main__':
    root, *folders = sys.argv[1:]
    end_with_parent()
    sys.path.insert(0, root)
    os.environ['PYTHONPATH'] = os.pathsep.join([root, os.environ.get('PYTHONPATH', '')])  # for torchrun's processes
    worker.PROGRAM = 'stub_program'
    worker.work(folders)
