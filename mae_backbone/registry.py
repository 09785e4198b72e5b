"""Our nodes of MMEngine's registries: `type='mae_backbone.X'` in a config finds what is registered here.

MMEngine imports this module by itself, and swallows an ImportError of it without a word: it imports nothing else.
"""
from mmengine import registry as mmengine_registry


def _node(name: str, *files: str) -> mmengine_registry.Registry:
    """A child of MMEngine's registry `name` that finds its members in `files` of this package."""
    parent = getattr(mmengine_registry, name)
    return mmengine_registry.Registry(parent.name, parent=parent, scope='mae_backbone',
                                      locations=[f'mae_backbone.{file}' for file in files])


MODELS = _node('MODELS', 'backbone', 'pyramid', 'preprocessor', 'pretrainer', 'classifier')
DATA_SAMPLERS = _node('DATA_SAMPLERS', 'data.sampler')
DATASETS = _node('DATASETS', 'data.unlabelled', 'data.class_folder')
FUNCTIONS = _node('FUNCTIONS', 'data.batch')
TRANSFORMS = _node('TRANSFORMS', 'data.readers')
HOOKS = _node('HOOKS', 'hooks.reconstruction', 'hooks.device_log', 'hooks.bad_images', 'hooks.checkpoint',
              'hooks.guard', 'hooks.preemption', 'hooks.throughput', 'hooks.health', 'hooks.probes', 'hooks.plots',
              'hooks.mask_schedule', 'hooks.confusion')
LOG_PROCESSORS = _node('LOG_PROCESSORS', 'run.log_line')
LOOPS = _node('LOOPS', 'loops', 'knn')
METRICS = _node('METRICS', 'metrics')
OPTIM_WRAPPERS = _node('OPTIM_WRAPPERS', 'run.optim_wrapper')
MODEL_WRAPPERS = _node('MODEL_WRAPPERS', 'run.fully_shard')
OPTIM_WRAPPER_CONSTRUCTORS = _node('OPTIM_WRAPPER_CONSTRUCTORS', 'layer_decay')
