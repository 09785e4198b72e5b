"""`mae_backbone.info`: describes a checkpoint, weights or an exported model."""
from pathlib import Path

from mae_backbone.checkpoints.info import CheckpointInfo
from mae_backbone.checkpoints.info import info as checkpoint_info
from mae_backbone.prediction.onnx.file_info import SUFFIXES, ExportedInfo, exported_info


def info(path: str | Path) -> CheckpointInfo | ExportedInfo:
    """Describes a checkpoint, weights, a folder in the format of Hugging Face or timm, or an exported file.

    Raises:
        FileNotFoundError: the file does not exist.
        ImportError: onnx is not installed, for an ONNX file.
        CheckpointError: the file cannot be read, or has no weights.
    """
    return exported_info(path) if Path(path).suffix.lower() in SUFFIXES else checkpoint_info(path)
