"""Checks that the optional packages for ONNX files are installed."""
import importlib.util


def require(*names: str) -> None:
    """Raises ImportError with the pip command if a package is not installed."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        extra = 'export,openvino' if 'openvino' in missing else 'export'
        raise ImportError(f'ONNX files need {" and ".join(missing)}: pip install mae_backbone[{extra}]')
