"""Writer of class folders."""
from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.layouts.class_lists import ClassImage, ClassSet
from mae_backbone.formats.layouts.labeled_set import Findings, LabeledSet
from mae_backbone.formats.writers.destination import Destination, unique_names


def write_folders(found: ClassSet, to: Destination) -> list[str]:
    """Writes SPLIT/CLASS/IMAGE. Returns the next steps.

    Raises:
        DataError: the name of a class cannot be the name of a folder.
    """
    for name in found.names:
        if name in ('.', '..') or set(name) & set('/\\\0') or name.startswith('.'):
            raise DataError(f'the class {name!r:.60} cannot be the name of a folder: rename it')
    for split in ('train', 'val', 'test'):
        images = [image for image in found.images if image.split == split]
        names = unique_names([image.image for image in images])
        for image in images:
            to.place(image.image, f'{split}/{image.name}/{names[image.image]}')
    return [f'mae-backbone check vit-micro_supervised_cifar10 --data-root {to.folder}']


def classes_of_images(labeled: LabeledSet, lost: Findings) -> ClassSet:
    """Objects -> a class for each image; images with objects of several classes, or without any, are left out."""
    images = []
    for image in labeled.images:
        names = {item.name for item in image.objects}
        if len(names) == 1:
            images.append(ClassImage(image.file_name, names.pop(), image.split, image.group))
            lost.add('boxes and masks of objects', image.file_name)
        else:
            lost.add('images with objects of several classes' if names else 'images without an object',
                     image.file_name)
    return ClassSet(labeled.root, labeled.layout, images, labeled.left_out)
