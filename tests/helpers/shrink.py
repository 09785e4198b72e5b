"""Shrinks the config of a detector or a segmenter, so that it trains on a tiny set in seconds with all its parts."""
import json
import uuid
from pathlib import Path

import numpy as np
from helpers.small_sets import write_image
from mmengine.config import Config
from PIL import Image
from pycocotools import mask as rle

from mae_backbone.planning.adapt_config import adapt_classes, replace_data_root

SIDE = 64  # pixels of the images
DEPTH, WIDTH = 4, 32
CHANNELS = {1280: WIDTH, 1024: WIDTH, 768: WIDTH, 384: WIDTH // 2, 192: WIDTH // 4, 256: 32, 128: 16, 512: 32,
            2048: 32}
CHANNEL_KEYS = {'in_channels', 'out_channels', 'feat_channels', 'conv_out_channels', 'fc_out_channels', 'embed_dims',
                'feedforward_channels', 'num_feats', 'channels', 'embed_dim'}
NUMBERS = {'nms_pre': 100, 'max_per_img': 50, 'num': 32, 'num_queries': 30, 'num_layers': 2, 'num_dn_queries': 10,
           'start_factor': 0.5, 'score_thr': 1e-4,  # so that one step changes weights, and untrained boxes count
           'pad_size_divisor': SIDE, 'batch_size': 2, 'num_workers': 0, 'persistent_workers': False}
SIZES = {'scale', 'crop_size', 'size', 'stride'}


def shrink(cfg: Config, data_root: Path) -> Config:
    """A copy of `cfg` with the data at `data_root` and a small model, small images and a short schedule."""
    cfg = Config({key: small(value) for key, value in cfg.to_dict().items()})
    replace_data_root(cfg, str(data_root))
    adapt_classes(cfg)
    if cfg.train_cfg.get('type') == 'EpochBasedTrainLoop':
        cfg.train_cfg.update(max_epochs=1)
    else:
        cfg.train_cfg.update(max_iters=cfg.optim_wrapper.get('accumulative_counts', 1), val_interval=1)
    cfg.default_hooks.logger.interval = 1
    cfg.visualizer.name = cfg.experiment_name = uuid.uuid4().hex  # MMEngine registers both by name
    return cfg


def small(node: object, key: str = '') -> object:
    """A copy of a node of a config with the numbers of a small model; `key` is the key of the node."""
    if isinstance(node, dict):
        shrunk = {name: small(value, name) for name, value in node.items()}
        if node.get('type') == 'DINOHead':
            shrunk['embed_dims'] = CHANNELS[256]  # the default is 256
        if node.get('type') == 'mae_backbone.TimmViT':
            return _timm_backbone(node, shrunk)
        return _backbone(node, shrunk) if node.get('type') == 'mae_backbone.ViTBackbone' else shrunk
    if isinstance(node, list | tuple):
        if key in SIZES:
            return (SIDE, SIDE)
        if key == 'scales' and all(isinstance(scale, tuple | list) for scale in node):
            return [(SIDE, 2 * SIDE)]
        return type(node)(small(value, key) for value in node)
    if key in CHANNEL_KEYS:
        return CHANNELS.get(node, node)
    return NUMBERS[key] if NUMBERS.get(key) is not None and node else node


def _backbone(cfg: dict, shrunk: dict) -> dict:
    """A ViT with fewer blocks; global blocks, convolution blocks and output blocks keep their relative depth."""
    from mae_backbone.core.vit import find_arch
    depth = find_arch(cfg['arch']).depth
    if cfg.get('frozen_stages') == depth:
        shrunk['frozen_stages'] = DEPTH
    for key in ('global_blocks', 'conv_blocks', 'out_indices'):
        if key in cfg:
            shrunk[key] = [i if i < 0 else (i + 1) * DEPTH // depth - 1 for i in cfg[key]]
    return shrunk | {'arch': {'width': WIDTH, 'depth': DEPTH, 'heads': 2}, 'image_size': SIDE, 'init_cfg': None,
                    'pretrain_image_size': 2 * SIDE, 'window_size': 3 if cfg.get('window_size') else 0}


def _timm_backbone(cfg: dict, shrunk: dict) -> dict:
    """A small ViT of timm with the same options; patches of 14 pixels become 16, which divide the images."""
    if 'frozen_stages' in cfg:
        shrunk['frozen_stages'] = DEPTH
    return shrunk | {'embed_dim': WIDTH, 'depth': DEPTH, 'num_heads': 2, 'image_size': SIDE, 'patch_size': 16,
                    'init_cfg': None}


def write_coco(root: Path, *, lvis: bool = False) -> None:
    """A tiny set in the layout of COCO or LVIS: polygons, a crowd, an image without annotations."""
    for split in ('train', 'val'):
        folder = f'{split}2017'
        path = root / 'annotations' / (f'lvis_v1_{split}.json' if lvis else f'instances_{folder}.json')
        path.parent.mkdir(parents=True, exist_ok=True)
        content = coco_content(folder)
        if lvis:
            for image in content['images']:
                image['coco_url'] = f'http://images.cocodataset.org/{folder}/{image.pop("file_name")}'
                image |= {'neg_category_ids': [1], 'not_exhaustive_category_ids': []}
            for category, frequency in zip(content['categories'], 'rf', strict=True):
                category['frequency'] = frequency
            content['annotations'] = [annotation for annotation in content['annotations']
                                      if not annotation.pop('iscrowd')]
        path.write_text(json.dumps(content))
        for i in range(4):
            write_image(root / folder / f'{i}.jpg', (80, 64))


def write_label_maps(root: Path, images: str = 'images/{}', maps: str = 'annotations/{}', *,
                     splits: tuple[str, str] = ('training', 'validation'), suffixes: tuple[str, str] = ('.jpg', '.png')
                     ) -> None:
    """A tiny set of label maps with three classes, two of them in each image, and unlabeled pixels."""
    root.mkdir(parents=True, exist_ok=True)
    (root / 'classes.txt').write_text('sky\nroad\ncar\n')
    for split in splits:
        for i in range(2):
            write_image(root / images.format(split) / f'{i}{suffixes[0]}', (80, 64))
            labels = np.full((64, 80), 255, np.uint8)
            labels[:, :40], labels[:, 40:60] = i, i + 1
            path = root / maps.format(split) / f'{i}{suffixes[1]}'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(labels).save(path)


def coco_content(folder: str) -> dict:
    """Four images: two objects as polygons, one as RLE, a crowd, and an image without annotations."""
    def annotation(number: int, image: int, category: int, box: list[int], segmentation: object, **more) -> dict:
        return {'id': number, 'image_id': image, 'category_id': category, 'bbox': box, 'area': box[2] * box[3],
                'iscrowd': 0, 'segmentation': segmentation} | more
    mask = np.zeros((64, 80), np.uint8, order='F')
    mask[10:30, 40:70] = 1
    compressed = rle.encode(mask)
    compressed['counts'] = compressed['counts'].decode()
    square = [[10, 12, 50, 12, 50, 52, 10, 52]]
    return {
        'images': [{'id': i, 'file_name': f'{i}.jpg', 'width': 80, 'height': 64} for i in range(4)],
        'categories': [{'id': 1, 'name': 'aerosol_can'}, {'id': 5, 'name': 'air_conditioner'}],
        'annotations': [annotation(1, 0, 1, [10, 12, 40, 40], square), annotation(2, 0, 5, [10, 12, 40, 40], square),
                        annotation(3, 1, 5, [40, 10, 30, 20], compressed),
                        annotation(4, 2, 1, [10, 12, 40, 40], square),
                        annotation(5, 2, 1, [40, 10, 30, 20], compressed, iscrowd=1)]}
