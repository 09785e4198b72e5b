"""Install mae_backbone with pip: `python -m pip install -e .`"""
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent


def version() -> str:
    """The version, which is written only in mae_backbone/__init__.py."""
    lines = (HERE / 'mae_backbone/__init__.py').read_text(encoding='utf-8').splitlines()
    return next(line.split("'")[1] for line in lines if line.startswith('__version__'))


class BuildWithConfigs(build_py):
    """Puts the configs into the package, where MMEngine looks for `mae_backbone::FOLDER/NAME.py`."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            write_mim(HERE / 'mae_backbone' / '.mim', link=True)
        elif not self.dry_run:
            write_mim(Path(self.build_lib) / 'mae_backbone' / '.mim', link=False)


def write_mim(folder: Path, *, link: bool) -> None:
    """Writes the index that MMEngine reads, and beside it the configs: a copy, or a link to the repository's."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'model-index.yml').write_text('Import: []\n', encoding='utf-8')
    configs = folder / 'configs'
    if configs.is_symlink():
        configs.unlink()
    elif configs.exists():
        shutil.rmtree(configs)
    if not link:
        shutil.copytree(HERE / 'configs', configs, ignore=shutil.ignore_patterns('__pycache__'))
        return
    try:
        configs.symlink_to(HERE / 'configs', target_is_directory=True)
    except OSError as error:  # Windows without developer mode; our own commands do not need the link
        print(f'{configs} cannot be linked ({error}): `mae_backbone::` does not resolve in `_base_`')


setup(
    name='mae_backbone',
    version=version(),
    description='From unlabeled images to a detector and a segmenter, on Masked Autoencoders',
    long_description=(HERE / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=['mae_backbone*']),
    package_data={'mae_backbone': ['py.typed', 'checkpoints/*.json', 'transfer/*.j2']},
    cmdclass={'build_py': BuildWithConfigs},
    entry_points={'console_scripts': ['mae-backbone = mae_backbone.cli.main:console']},
    install_requires=[
        # The maintained line of OpenMMLab. Its import names are those of the distributions that stopped in 2023 to 2025
        # (mmengine, mmcv, mmdet, mmsegmentation), which must not be installed as well (compat/install_check.py).
        'onedl-mmengine~=0.10.12',
        'onedl-mmcv~=2.3.6',
        'onedl-mmdetection~=3.5.1',
        'onedl-mmsegmentation~=1.4.2',
        # No ceilings: compat/install_check.py says which versions were tested, and commands warn beyond them.
        'torch>=2.11',
        'torchvision>=0.26',
        'timm>=1.0.31',
        'opencv-python',
        'numpy',
        'pillow>=10.1',
        'simplejpeg>=1.9',
        'pycocotools',
        'faster-coco-eval',
        'safetensors',
        'tensorboard',
        'matplotlib',
        'psutil',
        'scipy',
        'filelock',
        'pyyaml',
        'jinja2',
        'submitit>=1.5',
    ],
    extras_require={
        'test': ['pytest>=8', 'pytest-xdist>=3.8', 'ruff>=0.6', 'mypy', 'import-linter', 'codespell', 'tifffile',
                 'imagecodecs', 'scikit-learn', 'supervision', 'onnx', 'onnxruntime', 'onnxscript', 'openvino'],
        # Libraries whose checkpoints are read; tests/checkpoints/interop compares features with them.
        'test-interop': ['transformers>=5', 'lightly>=1.5', 'open_clip_torch'],
        'docs': ['mkdocs-material', 'mkdocstrings[python]'],
        'export': ['onnx', 'onnxruntime', 'onnxscript'],
        'openvino': ['openvino'],  # runs exported files on CPUs
        'supervision': ['supervision'],  # to_supervision of predictions
        'lora': ['peft'],  # low-rank adapters of the backbone
        'hub': ['huggingface_hub'],  # from_pretrained and push_to_hub with repositories
        'demo': ['gradio>=6.31,<7'],  # the page of `mae-backbone demo`
        'wandb': ['wandb'],
        'geotiff': ['tifffile', 'imagecodecs'],
        'lvis': [],  # its metric needs nothing more; the name stays for commands that have it
    },
)
