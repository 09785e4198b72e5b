"""The same labeled images in the layouts of several programs."""
import json
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np


class Shape(NamedTuple):
    """A box (x, y, width, height), with a triangle in it if `polygon`."""

    name: str
    box: tuple[int, int, int, int]
    polygon: bool = False

    @property
    def points(self) -> list[tuple[int, int]]:
        x, y, width, height = self.box
        return [(x, y), (x + width, y), (x + width, y + height)]


# Odd sizes, a space, a letter beyond ASCII, a suffix in upper case, a background image.
SCENES = {
    'train': {'a b.jpg': ((61, 47), [Shape('red', (4, 6, 20, 15)), Shape('blue', (30, 20, 25, 26))]),
              'grün.png': ((80, 33), [Shape('blue', (0, 0, 31, 17))]), 'empty.jpg': ((32, 32), [])},
    'val': {'c.JPG': ((45, 45), [Shape('red', (10, 10, 35, 35))])},
}


def objects_of(labeled) -> dict[str, list[tuple]]:
    """Split and file name -> class, box and crowd of each object, of a LabeledSet."""
    return {f'{image.split}/{Path(image.file_name).name}': [
        (labeled.name, tuple(round(value) for value in labeled.box)) for labeled in image.objects]
        for image in labeled.images}


def expected() -> dict[str, list[tuple]]:
    return {f'{split}/{name}': [(shape.name, shape.box) for shape in shapes]
            for split, scenes in SCENES.items() for name, (_, shapes) in scenes.items()}


def scene(path: Path, size: tuple[int, int], shapes: list[Shape] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((size[1], size[0], 3), 40, np.uint8)
    for shape in shapes or []:
        x, y, width, height = shape.box
        image[y:y + height, x:x + width] = {'red': (20, 20, 220), 'blue': (220, 20, 20)}.get(shape.name, 128)
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())


def voc_xml(size: tuple[int, int], shapes: list[Shape], *, filename: str = '', start: int = 1, more: str = '') -> str:
    objects = ''.join(
        f'<object><name>{shape.name}</name>{more}<bndbox><xmin>{x + start}</xmin><ymin>{y + start}</ymin>'
        f'<xmax>{x + width}</xmax><ymax>{y + height}</ymax></bndbox></object>'
        for shape in shapes for x, y, width, height in [shape.box])
    return (f'<annotation><filename>{filename}</filename><size><width>{size[0]}</width><height>{size[1]}</height>'
            f'<depth>3</depth></size>{objects}</annotation>')


def write_voc(root: Path, *, lists: bool = True, start: int = 1) -> Path:
    for split, scenes in SCENES.items():
        folder = root if lists else root / split
        for name, (size, shapes) in scenes.items():
            scene((folder / 'JPEGImages' if lists else folder) / name, size, shapes)
            path = (folder / 'Annotations' if lists else folder) / f'{Path(name).stem}.xml'
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(voc_xml(size, shapes, filename=name, start=start), encoding='utf-8')
        if lists:
            (root / 'ImageSets/Main').mkdir(parents=True, exist_ok=True)
            (root / f'ImageSets/Main/{split}.txt').write_text(
                ''.join(f'{Path(name).stem}\n' for name in scenes), encoding='utf-8')
    return root


def yolo_line(size: tuple[int, int], shape: Shape, names: list[str]) -> str:
    x, y, width, height = shape.box
    points = shape.points if shape.polygon else [(x + width / 2, y + height / 2), (width, height)]
    return ' '.join([str(names.index(shape.name)), *(f'{value / side:.7f}' for point in points
                                                     for value, side in zip(point, size, strict=True))])


DATA_YAML = 'path: .\ntrain: images/train\nval: images/val\nnames:\n  0: red\n  1: blue\n'


def write_yolo(root: Path, *, yaml: str = DATA_YAML, polygons: bool = False) -> Path:
    for split, scenes in SCENES.items():
        for name, (size, shapes) in scenes.items():
            scene(root / 'images' / split / name, size, shapes)
            path = root / 'labels' / split / f'{Path(name).stem}.txt'
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text('\n'.join(yolo_line(size, shape._replace(polygon=polygons), ['red', 'blue'])
                                      for shape in shapes))
    (root / 'data.yaml').write_text(yaml)
    return root


def labelme_json(name: str, size: tuple[int, int], shapes: list[dict], **more) -> str:
    return json.dumps(dict(version='5.4.1', flags={}, shapes=shapes, imagePath=name, imageData=None,
                           imageHeight=size[1], imageWidth=size[0]) | more)


def labelme_shape(shape: Shape, **more) -> dict:
    x, y, width, height = shape.box
    return dict(label=shape.name, group_id=None, flags={}, **(
        dict(shape_type='polygon', points=shape.points) if shape.polygon else
        dict(shape_type='rectangle', points=[(x, y), (x + width, y + height)]))) | more


def write_labelme(root: Path, *, polygons: bool = False) -> Path:
    for split, scenes in SCENES.items():
        for name, (size, shapes) in scenes.items():
            scene(root / split / name, size, shapes)
            (root / split / f'{Path(name).stem}.json').write_text(labelme_json(
                name, size, [labelme_shape(shape._replace(polygon=polygons)) for shape in shapes]), encoding='utf-8')
    return root


def cvat_element(shape: Shape) -> str:
    x, y, width, height = shape.box
    if shape.polygon:
        points = ';'.join(f'{x:.2f},{y:.2f}' for x, y in shape.points)
        return f'<polygon label="{shape.name}" points="{points}" occluded="0" z_order="0"/>'
    return (f'<box label="{shape.name}" xtl="{x}" ytl="{y}" xbr="{x + width}" ybr="{y + height}" occluded="0" '
            'z_order="0"/>')


def write_cvat(root: Path, *, polygons: bool = False, extra: str = '', names: tuple[str, ...] = ('red', 'blue')
               ) -> Path:
    elements = []
    for split, scenes in SCENES.items():
        for name, (size, shapes) in scenes.items():
            scene(root / 'images' / split / name, size, shapes)
            inner = ''.join(cvat_element(shape._replace(polygon=polygons)) for shape in shapes)
            elements.append(f'<image id="{len(elements)}" name="{name}" subset="{split}" width="{size[0]}" '
                            f'height="{size[1]}">{inner}{extra}</image>')
    labels = ''.join(f'<label><name>{name}</name></label>' for name in names)
    (root / 'annotations.xml').write_text(
        f'<annotations><version>1.1</version><meta><task><labels>{labels}</labels></task></meta>{"".join(elements)}'
        '</annotations>', encoding='utf-8')
    return root


def coco_dict(scenes: dict, *, folder: str = '', first_category: int = 1) -> dict:
    names = ['red', 'blue']
    images, annotations = [], []
    for name, (size, shapes) in scenes.items():
        images.append(dict(id=len(images) + 1, file_name=folder + name, width=size[0], height=size[1]))
        for shape in shapes:
            x, y, width, height = shape.box
            annotations.append(dict(id=len(annotations) + 1, image_id=len(images), iscrowd=0, bbox=list(shape.box),
                                    category_id=names.index(shape.name) + first_category, area=width * height,
                                    segmentation=[[x, y, x + width, y, x + width, y + height, x, y + height]]))
    return dict(images=images, annotations=annotations,
                categories=[dict(id=i, name=name) for i, name in enumerate(names, start=first_category)])


def write_csv(root: Path, header: str = 'filename,xmin,ymin,xmax,ymax,label') -> Path:
    for split, scenes in SCENES.items():
        lines = [header]
        for name, (size, shapes) in scenes.items():
            scene(root / split / name, size, shapes)
            for shape in shapes:
                x, y, width, height = shape.box
                values = dict(filename=name, path=f'{split}/{name}', xmin=x, ymin=y, xmax=x + width, ymax=y + height,
                              label=shape.name, width=size[0], height=size[1])
                values['class'] = shape.name
                lines.append(','.join(str(values[key]) for key in header.split(',')))
        (root / f'{split}.csv').write_text('\n'.join(lines), encoding='utf-8')
    return root


def via_region(shape: dict, **attributes) -> dict:
    return dict(shape_attributes=shape, region_attributes=attributes)


def write_via(root: Path, style: str = 'version 2') -> Path:
    for split, scenes in SCENES.items():
        images = {}
        for name, (size, shapes) in scenes.items():
            scene(root / split / name, size, shapes)
            regions = []
            for shape in shapes:
                x, y, width, height = shape.box
                label = {shape.name: True} if style == 'checkboxes' else shape.name
                regions.append(via_region(dict(name='rect', x=x, y=y, width=width, height=height), label=label))
            images[f'{name}123'] = dict(filename=name, size=123, file_attributes={}, regions=(
                {str(i): entry for i, entry in enumerate(regions)} if style == 'version 1' else regions))
        content = dict(_via_settings=dict(ui={}), _via_img_metadata=images) if style == 'project' else images
        (root / split / 'via_region_data.json').write_text(json.dumps(content))
    return root


def write_jsonl(root: Path, style: str = 'names') -> Path:
    names = ['red', 'blue']
    for split, scenes in SCENES.items():
        lines = []
        for name, (size, shapes) in scenes.items():
            scene(root / split / name, size, shapes)
            classes = [shape.name if style == 'names' else names.index(shape.name) for shape in shapes]
            objects = ([dict(bbox=shape.box, label=label) for shape, label in zip(shapes, classes, strict=True)]
                       if style == 'list' else dict(bbox=[shape.box for shape in shapes], categories=classes))
            lines.append(json.dumps(dict(file_name=name, objects=objects)))
        (root / split / 'metadata.jsonl').write_text('\n'.join(lines))
    (root / 'classes.txt').write_text('red\nblue\n')
    return root


def write_createml(root: Path) -> Path:
    for split, scenes in SCENES.items():
        entries = []
        for name, (size, shapes) in scenes.items():
            scene(root / split / name, size, shapes)
            entries.append(dict(image=name, annotations=[dict(label=shape.name, coordinates=dict(
                x=x + width / 2, y=y + height / 2, width=width, height=height))
                for shape in shapes for x, y, width, height in [shape.box]]))
        (root / split / '_annotations.createml.json').write_text(json.dumps(entries))
    return root
