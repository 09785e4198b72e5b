"""Checks the data of a plan as the training does, and returns warnings about labels that are not used."""
from mae_backbone.data.decode import Decoding
from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.planning.own_data import OwnData


def data_warnings(data: OwnData) -> list[str]:
    """Checks all splits of a data set, so that a plan is not made for data that the training would refuse.

    Reads the headers of all images, decodes some of them, and reads some of the label maps.

    Args:
        data: result of `find_data`.

    Returns:
        Warnings for the plan.

    Raises:
        DataError: the data cannot be used for training.
    """
    warnings = list(data.warnings)
    if data.task == 'pretraining':
        return warnings + data.splits['train'].label_warnings()
    masks = data.splits['train'].has_masks
    for split, data_format in data.splits.items():
        if isinstance(data_format.reading, Decoding):  # the plan scales images with 16 bits: no warning of dark images
            data_format.reading = data_format.reading._replace(percentiles=(0, 100))
        try:
            data_format.check(masks=masks, labels=True)
        except DataError as error:
            path = data_format.spec.annotations
            if not data.written or not path:
                raise
            # A converted file in the cache: the user knows only the folder.
            raise DataError(str(error).replace(path, f'{data.root}, split {split}')) from error
        warnings += data_format.label_warnings()
    return warnings
