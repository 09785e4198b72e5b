"""Install mae_backbone with pip alone: `python -m pip install -e .`"""
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
package = (here / 'mae_backbone/__init__.py').read_text(encoding='utf-8')
version = next(line.split("'")[1] for line in package.splitlines() if line.startswith('__version__'))

setup(
    name='mae_backbone',
    version=version,
    description='From unlabeled images to a detector and a segmenter, on Masked Autoencoders',
    long_description=(here / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.10,<3.13',
    packages=find_packages(include=['mae_backbone*']),
    entry_points={'console_scripts': ['mae-backbone = mae_backbone.cli.main:console']},
    install_requires=[
        # The maintained line of OpenMMLab, pinned together. Their import names are those of the distributions that
        # stopped in 2023 to 2025 (mmengine, mmcv, mmdet, mmsegmentation), which must not stand beside them.
        'onedl-mmengine==0.10.12',
        'onedl-mmcv==2.3.6',
        'onedl-mmdetection==3.5.1',
        'onedl-mmsegmentation==1.4.2',
        'torch>=2.11,<2.16',
        'torchvision>=0.26,<0.30',  # the pairs of torch 2.11 and 2.15
        'timm>=1.0.31,<1.1',
        'opencv-python',
        'numpy',
        'simplejpeg>=1.9',
        'pycocotools',
        'safetensors',
        'tensorboard',
        'matplotlib',
        'psutil',
        'scipy',  # which mmdet requires too
        'filelock',  # torch requires it too
        'jinja2',  # torch requires it too
    ],
    extras_require={
        'test': ['pytest>=8', 'pytest-xdist>=3.6', 'ruff>=0.6', 'tifffile', 'imagecodecs', 'faster-coco-eval',
                 'scikit-learn', 'submitit'],
        'docs': ['mkdocs-material>=9.5', 'mkdocstrings[python]>=0.27'],
        'wandb': ['wandb'],
        'geotiff': ['tifffile', 'imagecodecs'],
        'slurm': ['submitit>=1.5'],
        'lvis': ['faster-coco-eval'],  # the metric of LVIS
    },
)
