"""Labels in an annotation file of COCO's format: checks for training and evaluation, and notes on unused labels."""
from mae_backbone.formats.coco_file import NO_ISCROWD, CocoFile
from mae_backbone.formats.coco_objects import Id
from mae_backbone.formats.dataset_spec import DataError, DatasetSpec
from mae_backbone.formats.messages import case_hint, first_few

# Transforms of mmdet that drop images without objects by default, and the setting with which they keep them. Despite
# its name, keep_empty=True of FilterAnnotations drops such images.
_DROPPERS = {'FilterAnnotations': ('keep_empty', False), 'RandomCrop': ('allow_negative_crop', True)}
_REPEATED = 'image files that are listed more than once, so that objects of one entry are background in the others'
_ROTATED = 'objects with a rotation in "attributes", read as they are before the rotation'


class CocoLabels:
    """Labels of a split, for the classes and filters of its config.

    Args:
        file: summary of the annotation file.
        spec: data set in the config.

    Attributes:
        categories: ids of the categories that the config trains or tests, in the order of the labels.
        num_boxes: number of boxes of these categories.
    """

    def __init__(self, file: CocoFile, spec: DatasetSpec) -> None:
        self.file, self.spec = file, spec
        names = set(spec.class_names)
        self.categories: list[Id] = [number for number, name in file.categories.items() if name in names]
        self.num_boxes = sum(file.num_boxes[number] for number in self.categories)

    def check_classes(self, *, takes_urls: bool) -> None:
        """Refuses categories that would be given other labels than the classes of the config.

        Args:
            takes_urls: images may have `coco_url` instead of `file_name`.
        """
        file, names = self.file, self.spec.class_names
        if file.num_images_by_url and not takes_urls:
            raise DataError(f"{file.path}: {file.num_images_by_url:,} of {len(file.images):,} images have no "
                            "'file_name': add it. LVIS has coco_url instead: set type='mae_backbone.LVISDataset'")
        # mmdet numbers labels in the order of the categories of each file, but their names are in the order of the
        # classes in the config. Therefore both orders must be equal.
        if [name for name in file.categories.values() if name in names] != names:
            raise DataError(f'{file.path}: its {len(file.categories)} categories '
                            f'({first_few(file.categories.values())}) are not the {len(names)} classes to train '
                            f'({first_few(names)}) in the same order, so that labels would be mixed up: write the same '
                            'list of categories into the annotation files of all splits, including categories without '
                            f'a box{case_hint(file.categories.values(), names)}')

    def check_boxes(self) -> None:
        """Refuses a file without a box that can be used."""
        file, num_boxes = self.file, self.num_boxes
        if not file.has_annotations:
            raise DataError(f"{file.path} has no list 'annotations': set ann_file to the file with the labels. Without "
                            'labels, `mae-backbone predict` can predict the images, but training and testing need '
                            'labels')
        num_crowds = sum(file.num_crowds[number] for number in self.categories)
        if not num_boxes and num_crowds:
            raise DataError(f'{file.path}: all {num_crowds:,} annotations of {first_few(self.spec.class_names)} have '
                            'iscrowd=1, which marks regions to ignore. There is no object for training or testing: '
                            'set iscrowd to 0 for single objects (some tools write 1 for every RLE mask)')
        if not num_boxes and file.num_skipped and file.consistency.num_relative == file.num_skipped:
            raise DataError(f'{file.path}: all numbers of its boxes are between 0 and 1. They seem to be fractions of '
                            'the image size: write x, y, width, height in pixels')
        if not num_boxes and file.num_skipped:
            raise DataError(f'{file.path}: none of its {len(file.images):,} images has a box of '
                            f'{first_few(self.spec.class_names)} that can be used. Boxes without area, outside of '
                            f'their image or marked "ignore": {file.num_skipped:,} (in '
                            f'{first_few(self._images_with_skipped())}). Write boxes in pixels of the images as they '
                            'are now')
        if not num_boxes:
            raise DataError(f'{file.path}: none of its {len(file.images):,} images has a box of '
                            f'{first_few(self.spec.class_names)}: label some, or correct the names of the label files '
                            '(in a config: ann_file)')

    def check_consistency(self, *, masks: bool) -> list[str]:
        """Refuses a file if many of its fields contradict each other. Returns lines for single contradictions."""
        lines = []
        for contradiction in self.file.consistency.contradictions():
            if contradiction.is_systematic and (masks or contradiction.concerns_boxes):
                raise DataError(f'{self.file.path}: {len(contradiction.ids):,} of '
                                f'{self.file.consistency.num_boxes:,} objects {contradiction}: {contradiction.advice}')
            lines.append(f'{self.spec.split}: {len(contradiction.ids):,} objects {contradiction}')
        return lines

    def check_masks(self, *, evaluated: bool) -> None:
        """Refuses masks that make mmdet fail, or pycocotools if masks are evaluated."""
        path = self.file.path
        missing, misfit, partial, broken = (
            self.file.faulty_masks(kind, self.categories, trained_only=not evaluated)
            for kind in ('missing', 'misfit', 'partial', 'broken'))
        otherwise = 'or use a config without masks, such as faster-rcnn_vit-micro_nuclei'
        if missing:
            raise DataError(f'{path}: {len(missing):,} annotations have no segmentation (id {first_few(missing)}), but '
                            f'the config trains or tests masks: add the masks, {otherwise}')
        if misfit:
            raise DataError(f'{path}: {len(misfit):,} annotations have a segmentation that is not a mask of their '
                            f'image (id {first_few(misfit)}): expected a list of polygons [[x, y, ...], ...], or '
                            'RLE whose size is the height and width of the image and whose counts add up to all '
                            f'of its pixels. Correct or remove them, {otherwise}')
        if evaluated and (broken or partial):
            raise DataError(f'{path}: {len(broken + partial):,} annotations have polygons with fewer than three points '
                            'or an odd number of coordinates, or RLE without counts and size '
                            f'(id {first_few(broken + partial)}). The evaluation would fail: correct or remove them, '
                            f'{otherwise}')
        if broken and len(broken) >= self.num_boxes:
            raise DataError(f'{path}: all {len(broken):,} segmentations are empty, have polygons with fewer than three '
                            f'points, or are RLE without counts and size (id {first_few(broken)}), so that no object '
                            f'would be trained on: correct them, {otherwise}')

    def check_metric(self, *, reads_iscrowd: bool) -> None:
        """Refuses annotations with which the metric would fail.

        Args:
            reads_iscrowd: the metric fails without `iscrowd`.
        """
        for fault, ids in self.file.metric_faults.items():
            if fault != NO_ISCROWD or reads_iscrowd:
                raise DataError(f'{self.file.path}: {len(ids):,} annotations have {fault} (id {first_few(ids)}). '
                                f'COCO\'s metric, which evaluates the {self.spec.split} set, requires integer ids, and '
                                '"iscrowd": 0 for objects that are not crowds: correct them')

    def notes(self, *, masks: bool) -> list[str]:
        """Returns lines about annotations that are not errors. Refuses a set if training filters out all images."""
        file, categories = self.file, self.categories
        filters = (self.spec.option('filter_cfg') or {}) if self.spec.split == 'train' else {}
        min_size, drops_empty = filters.get('min_size', 0), filters.get('filter_empty_gt', False)
        annotated = set().union(*(file.annotated_images.get(number, set()) for number in categories))
        empty = file.images.keys() - annotated
        small = {number for number, image in file.images.items() if min(image.width, image.height) < min_size}
        if len(small | (empty if drops_empty else set())) == len(file.images):
            raise DataError(f'{file.path}: all images with annotations have a side below {min_size} pixels, and '
                            'training filters such images out: set min_size in filter_cfg of the train set, or use '
                            'larger images')
        others = self._other_boxes()
        unused = self._classes_without_boxes()
        broken, partial = (len(file.faulty_masks(kind, categories, trained_only=True)) * masks
                           for kind in ('broken', 'partial'))
        notes = [
            (len(empty), 'images without annotations' + self._use_of_empty_images(drops_empty)),
            (len(small), f'images with a side below {min_size} pixels, which training filters out'),
            (sum(file.num_crowds[number] for number in categories), 'boxes that mark crowds, which are ignored'),
            (file.num_skipped, 'annotations without area, outside their image or marked "ignore", which are skipped'),
            (file.num_out_of_bounds,
             'boxes that reach beyond their image, where they are clipped (expected bbox: x, y, width, height)'),
            (broken, 'annotations with polygons of fewer than three points or incomplete RLE, which are ignored'),
            (partial, 'annotations with some polygons of fewer than three points, which are dropped'),
            (file.has_id_zero * (self.spec.split != 'train'),
             "annotations with the id 0, which COCO's metric always counts as not detected (number them from 1)"),
            (sum(others.values()), 'boxes of classes that are not in the config, which are left out ('
             + first_few(f'{name}: {count:,}' for name, count in others.items()) + ')'),
            (len(unused), f'classes without a box ({first_few(unused)})'),
            (len(self.file.repeated_images), _REPEATED), (self.file.num_rotated, _ROTATED)]
        return [f'{self.spec.split}: {note}: {count:,}' for count, note in notes if count]

    def warnings(self) -> list[str]:
        """Returns warnings about boxes that are not used, and about classes without a box in training."""
        file, split, warnings = self.file, self.spec.split, []
        if file.num_skipped:
            warnings.append(f'{split}: boxes without area, outside of their image or marked "ignore", which are not '
                            f'used: {file.num_skipped:,} (in {first_few(self._images_with_skipped())}). Correct or '
                            'remove them')
        if repeated := file.repeated_images:
            warnings.append(f'{split}: {_REPEATED}: {len(repeated):,} ({first_few(repeated)}). Join their entries')
        if file.num_rotated:
            warnings.append(f'{split}: {_ROTATED}: {file.num_rotated:,}. Export them from CVAT as "CVAT for images '
                            '1.1", in which rotated boxes become polygons')
        others = self._other_boxes()
        if any(others.values()):
            counts = first_few(f'{name}: {count:,}' for name, count in others.items())
            warnings.append(f'{split}: boxes of classes that are not in the training set, which are not used: '
                            f'{sum(others.values()):,} ({counts}). Correct the class names'
                            f'{case_hint(file.categories.values())}')
        unused = self._classes_without_boxes()
        if unused and split == 'train':
            warnings.append(f'classes without a box in the training set, which cannot be learned: {len(unused)} of '
                            f'{len(self.categories)} ({first_few(unused)}). Label objects of them there, or remove the '
                            f'classes from all splits{case_hint(file.categories.values())}')
        return warnings

    def _other_boxes(self) -> dict[str, int]:
        """Returns the number of boxes of each category that the config does not train or test."""
        categories = set(self.categories)
        return {name: self.file.num_boxes[number] for number, name in self.file.categories.items()
                if number not in categories}

    def _classes_without_boxes(self) -> list[str]:
        return [self.file.categories[number] for number in self.categories if not self.file.num_boxes[number]]

    def _images_with_skipped(self) -> list[str]:
        return [self.file.images[number].file_name for number in self.file.images_with_skipped]

    def _use_of_empty_images(self, drops_empty: bool) -> str:
        """Returns what training does with images without annotations, as text; '' for other splits."""
        if self.spec.split != 'train':
            return ''
        if drops_empty:
            return ', which training filters out (filter_empty_gt)'
        droppers = sorted(set(filter(None, map(_drops_empty_images, self.spec.transforms()))))
        return f', which {" and ".join(droppers)} replaces by other images' if droppers else (
            ', which training uses as background')


def _drops_empty_images(step: dict) -> str:
    """Returns the name of a transform that drops images without objects, with the setting that keeps them, or ''."""
    name = str(step.get('type')).split('.')[-1]
    setting, keeps = _DROPPERS.get(name, ('', True))
    return f'{name} (without {setting}={keeps})' if setting and step.get(setting, not keeps) != keeps else ''
