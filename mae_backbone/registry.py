"""Our nodes of MMEngine's registries: `type='mae_backbone.X'` in a config finds classes that are registered here.

MMEngine imports this module itself and ignores an ImportError in it without a message: it must import nothing else.
"""
from mmengine import registry as mmengine_registry


def _node(name: str, *files: str) -> mmengine_registry.Registry:
    """A child of MMEngine's registry `name` that finds its members in `files` of this package."""
    parent = getattr(mmengine_registry, name)
    return mmengine_registry.Registry(parent.name, parent=parent, scope='mae_backbone',
                                      locations=[f'mae_backbone.{file}' for file in files])


MODELS = _node('MODELS', 'models.backbone', 'models.timm_vit', 'models.pyramid', 'models.preprocessor',
               'models.pretrainer', 'models.classifier', 'models.distillation')
DATA_SAMPLERS = _node('DATA_SAMPLERS', 'data.sampler', 'data.repeat_factors')
DATASETS = _node('DATASETS', 'data.unlabeled', 'data.class_folder')
FUNCTIONS = _node('FUNCTIONS', 'data.batch')
TRANSFORMS = _node('TRANSFORMS', 'data.readers', 'data.load_image')
HOOKS = _node('HOOKS', 'hooks.reconstruction', 'hooks.device_scalars', 'hooks.bad_images', 'hooks.checkpoint',
              'hooks.nonfinite_guard', 'hooks.preemption', 'hooks.throughput', 'hooks.health', 'hooks.online_probe',
              'hooks.training_plot', 'hooks.mask_schedule', 'hooks.image_size_schedule', 'hooks.confusion',
              'hooks.freeze_encoder', 'hooks.early_stopping', 'hooks.class_table', 'hooks.detection_confusion',
              'hooks.logger', 'hooks.cpu_time', 'hooks.image_results',
              'prediction.validation_pictures')
LOG_PROCESSORS = _node('LOG_PROCESSORS', 'engine.log_processor')
LOOPS = _node('LOOPS', 'engine.loops', 'evaluation.knn')
METRICS = _node('METRICS', 'evaluation.metrics')
OPTIM_WRAPPERS = _node('OPTIM_WRAPPERS', 'engine.optim_wrapper')
MODEL_WRAPPERS = _node('MODEL_WRAPPERS', 'engine.fsdp')
OPTIM_WRAPPER_CONSTRUCTORS = _node('OPTIM_WRAPPER_CONSTRUCTORS', 'engine.layer_decay')
PARAM_SCHEDULERS = _node('PARAM_SCHEDULERS', 'engine.warmup')
