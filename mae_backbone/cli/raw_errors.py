"""Explains errors of torch, mmengine, mmdet and mmseg that are caused by a config, from their tracebacks.

These packages check few of their settings. A wrong setting therefore raises an AssertionError, a TypeError or an error
about shapes deep in their code. The part of the config that causes the error is found from the frames of the traceback:
the object that was being built, or the module, transform, hook or metric that was running.
"""
import os
import re
import sys
import textwrap
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

# Kinds of errors that wrong settings cause. Other kinds, and the messages of devices below, are not explained here.
_KINDS = (ArithmeticError, AssertionError, AttributeError, LookupError, NameError, NotImplementedError, RuntimeError,
          TypeError, ValueError)
_DEVICE = ('CUDA error', 'cuDNN error', 'CUBLAS', 'INTERNAL ASSERT')
# Methods of MMEngine's Runner -> the settings that they read.
_RUNNER = {
    'set_randomness': 'randomness', 'setup_env': 'env_cfg', 'build_logger': 'log_level', 'build_model': 'model',
    'register_hook': 'default_hooks and custom_hooks', 'register_custom_hooks': 'custom_hooks',
    'register_default_hooks': 'default_hooks', '_check_scheduler_cfg': 'param_scheduler',
    'build_param_scheduler': 'param_scheduler', '_build_param_scheduler': 'param_scheduler',
    'build_optim_wrapper': 'optim_wrapper', 'build_dataloader': 'the dataloader', 'build_train_loop': 'train_cfg',
    'build_val_loop': 'val_cfg', 'build_test_loop': 'test_cfg', 'build_evaluator': 'the evaluator',
    'build_visualizer': 'visualizer', 'build_log_processor': 'log_processor', 'wrap_model': 'model_wrapper_cfg',
    'scale_lr': 'auto_scale_lr', 'turn_on_activation_checkpointing': 'activation_checkpointing',
    '_log_env': 'env_cfg'}
# Messages of torch -> advice.
_ADVICE = (
    (r'Expected more than 1 value per channel when training',
     'batch norm needs more than one value per channel: set train_dataloader.batch_size to 2 or more, or a norm_cfg '
     "without batches, such as dict(type='GN', num_groups=8)"),
    (r'shapes cannot be multiplied|expected input.* to have|size of tensor a|running_mean should contain|'
     r'Sizes of tensors must match|shape .* is invalid|must match the size|do not match',
     'two connected parts have different sizes: compare in_channels, out_channels, channels, strides, out_indices and '
     'the size of the images'),
    (r'is out of bounds|index out of range|out of range with size|device-side assert',
     'a number is larger than the table that it refers to: compare num_classes with the classes of the data, and '
     'in_index and out_indices with the levels'),
    (r'Kernel size can.t be greater|Calculated padded input size|(?i:output size is too small)|non-zero size|'
     r'Input image size|must be greater than 0',
     'the input is too small for the model: use larger crops or images, a smaller patch_size, or fewer strides'),
)


def explain_raw(error: BaseException) -> str | None:
    """Returns a message for an error that a setting of the config has caused, or None if its origin is not known."""
    is_known = isinstance(error, _KINDS) or type(error).__module__ == 'cv2'
    if not is_known or any(sign in str(error) for sign in _DEVICE):
        return None
    frames = list(_frames(error))
    for rule in (_merging, _worker, _transform, _building, _metric, _module, _loader, _runner):
        if (subject := rule(error, frames)) is not None:
            return f'{subject}: {_text(error)}{_advice(error)} (MAE_BACKBONE_TRACEBACK=1 shows where it is raised)'
    return None


def _frames(error: BaseException) -> Iterator[FrameType]:
    """Frames of an error, the innermost first, including the frames of the error that it replaced."""
    seen: set[int] = set()
    chain: BaseException | None = error
    while chain is not None and id(chain) not in seen:
        seen.add(id(chain))
        frames, traceback = [], chain.__traceback__
        while isinstance(traceback, TracebackType):
            frames.append(traceback.tb_frame)
            traceback = traceback.tb_next
        yield from reversed(frames)
        chain = chain.__cause__ or chain.__context__


def _text(error: BaseException) -> str:
    """Kind and message of an error in one line."""
    text = str(error)
    if 'Original Traceback' in text:  # text of an error in a DataLoader worker
        text = text.strip().splitlines()[-1].partition(': ')[2]
    # MMEngine adds the address of the hook.
    text = re.sub(r' in <[\w.]+ object at 0x[0-9a-f]+>$', '', ' '.join(text.split()))
    return f'{type(error).__name__}: {textwrap.shorten(text, 300, placeholder=" ...")}' if text else (
        type(error).__name__)


def _advice(error: BaseException) -> str:
    return next((f'. {advice[0].upper()}{advice[1:]}' for pattern, advice in _ADVICE
                 if re.search(pattern, str(error))), '')


# ---- rules: error and its frames -> subject of the message, or None

def _merging(error: BaseException, frames: list[FrameType]) -> str | None:
    if any(_is(frame, 'mmengine/config/config.py', '_merge_a_into_b') for frame in frames):
        return '--cfg-options cannot be merged into the config, check their keys'
    return None


def _building(error: BaseException, frames: list[FrameType]) -> str | None:
    """Returns the object that was built from a dict of the config, the called hook, or the method of the Runner."""
    for frame in frames:
        name = frame.f_code.co_name
        if _is(frame, 'mmengine/registry/build_functions.py', 'build_from_cfg'):
            cfg = frame.f_locals.get('cfg')
            settings = {key: value for key, value in cfg.items() if key != 'type'} if isinstance(cfg, dict) else {}
            cls = frame.f_locals.get('obj_cls') or frame.f_locals.get('obj_type')
            return (f'the config cannot build {_type_name(cls)} with '
                    f'{_shown(settings) or "its defaults"}, check these settings')
        if _is(frame, 'mmengine/runner/runner.py', 'call_hook'):
            hook = frame.f_locals.get('hook')
            return f'{_type_name(type(hook))} cannot run, check its settings in default_hooks or custom_hooks'
        if '/runner' in frame.f_code.co_filename.replace(os.sep, '/') and name in _RUNNER:
            return f'the config has settings that cannot be used, check {_with_value(_RUNNER[name], frame)}'
    return None


def _metric(error: BaseException, frames: list[FrameType]) -> str | None:
    metric_type = _class('mmengine.evaluator.metric', 'BaseMetric')
    for frame in frames:
        owner = frame.f_locals.get('self')
        if metric_type is not None and isinstance(owner, metric_type):
            return f'{_type_name(type(owner))} cannot evaluate, check the settings of the evaluator'
    return None


def _module(error: BaseException, frames: list[FrameType]) -> str | None:
    """Returns the part of the model whose code was running when a step of the model failed."""
    module_type = _class('torch.nn', 'Module')
    if module_type is None or not any(frame.f_code.co_name in ('train_step', 'val_step', 'test_step')
                                      for frame in frames):
        return None
    for frame in frames:
        owner = frame.f_locals.get('self')
        if isinstance(owner, module_type) and not type(owner).__module__.startswith('torch.'):
            return (f'{_type_name(type(owner))}, a part of the model, fails in {frame.f_code.co_name}, check its '
                    'settings, and the settings of the parts before it')
    return None


def _transform(error: BaseException, frames: list[FrameType]) -> str | None:
    transform_type = _class('mmcv.transforms.base', 'BaseTransform')
    for frame in frames:
        owner = frame.f_locals.get('self')
        if transform_type is not None and isinstance(owner, transform_type):
            return (f'{_type_name(type(owner))}, a step of the pipeline, fails, check its settings and the order of '
                    'the steps')
    return None


def _worker(error: BaseException, frames: list[FrameType]) -> str | None:
    """Explains an error of a DataLoader worker. Its traceback is part of the message, as text."""
    if 'in DataLoader worker' not in str(error):
        return None
    files = re.findall(r'File "([^"]+)", line \d+, in (\w+)', str(error))
    where = next((f'{os.path.basename(file)}, {function}' for file, function in reversed(files)
                  if '/transforms/' in file or '/datasets/' in file), '')
    return f'the data cannot be loaded{f" ({where})" * bool(where)}, check the pipeline and the data set'


def _loader(error: BaseException, frames: list[FrameType]) -> str | None:
    if any('torch/utils/data' in frame.f_code.co_filename.replace(os.sep, '/') for frame in frames):
        return 'the images cannot be loaded, check the settings of the dataloader and its data set'
    return None


def _runner(error: BaseException, frames: list[FrameType]) -> str | None:
    """Explains an error in MMEngine's Runner itself, which has called one of its methods with wrong arguments."""
    if any(_is(frame, 'mmengine/runner/runner.py', '__init__') for frame in frames):
        called = next((key for key in _RUNNER if f'{key}()' in str(error)), '')
        return f'the config has settings that cannot be used{f", check {_RUNNER[called]}" if called else ""}'
    return None


# ---- parts of messages

def _is(frame: FrameType, file: str, function: str) -> bool:
    code = frame.f_code
    return code.co_name == function and code.co_filename.replace(os.sep, '/').endswith(file)


def _class(module: str, name: str) -> type | None:
    """A class of a package, if the package has been imported."""
    return getattr(sys.modules.get(module), name, None)


def _type_name(cls: Any) -> str:
    if not isinstance(cls, type):
        return str(getattr(cls, '__name__', cls))
    return f'mae_backbone.{cls.__name__}' if cls.__module__.startswith('mae_backbone.') else cls.__name__


def _with_value(key: str, frame: FrameType) -> str:
    """Returns a setting as key=value. The value is the argument with this name in the frame of the Runner's method."""
    value = frame.f_locals.get(key)
    return f'{key}={textwrap.shorten(repr(value), 200, placeholder=" ...")}' if isinstance(value, dict) else key


def _shown(settings: dict) -> str:
    """Returns settings as short text 'key=value, ...', without those that are dicts."""
    plain = {key: value for key, value in settings.items() if not isinstance(value, dict)}
    return textwrap.shorten(', '.join(f'{key}={value!r:.60}' for key, value in plain.items()), 240, placeholder=' ...')
