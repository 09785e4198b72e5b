"""Layout of the page in Gradio."""
from collections.abc import Callable
from functools import wraps
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from mae_backbone.data.decode import Decoding
from mae_backbone.data.reading import Reading, suffixes_of
from mae_backbone.demo import html
from mae_backbone.demo.answers import ANSWERS
from mae_backbone.demo.page import Page, View, Visit
from mae_backbone.prediction.model import MaskedAutoencoder, Model
from mae_backbone.prediction.predicting import PredictsImages
from mae_backbone.utils.printable import printable

_KINDS = {'detection': 'detector', 'segmentation': 'segmenter', 'classification': 'classifier',
          'pretraining': 'masked autoencoder', 'features': 'encoder'}
_FILES = 2  # downloads next to a figure
KEEP_SECONDS = 3600  # of an image in memory


def build(page: Page) -> gr.Blocks:
    """Builds the page of a model: an input on the left, and a tab for each thing that the model can do."""
    model = page.model
    with gr.Blocks(title=f'{model.path.name} - mae_backbone', analytics_enabled=False) as blocks:
        visit = gr.State(None, time_to_live=KEEP_SECONDS)
        gr.HTML(html.head(model.path.name, describe(page)), padding=False)
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=300):
                image, preview = _input(model.decoding)
                message = gr.HTML(html.message(page.empty), padding=False, elem_id='message')
            with gr.Column(scale=3, min_width=300), gr.Tabs():
                updates = [update for update in (_prediction(page, visit), _reconstruction(page, visit),
                                                 _attention(page, visit), _neighbors(page, visit)) if update]
        given = image.input if image is preview else image.upload
        taken = given(guarded(page.take), [image], [visit, message, preview], show_progress='minimal')
        for function, inputs, outputs in updates:
            taken.then(guarded(function), inputs, outputs)
        cleared = image.clear(lambda: (None, html.message(page.empty), None), None, [visit, message, preview])
        for function, inputs, outputs in updates:  # without an image they show nothing
            cleared.then(guarded(function), inputs, outputs)
    return blocks


def _input(reading: Reading) -> tuple[Any, Any]:
    """Input and display of an image. They are the same component, except for files that browsers cannot show."""
    if isinstance(reading, Decoding) or reading.is_color:
        image: Any = gr.Image(sources=['upload', 'webcam', 'clipboard'], type='filepath', label='Image', height=300,
                              elem_id='image')
        preview = image
    else:
        suffixes = suffixes_of(reading)
        image = gr.File(file_types=list(suffixes), type='filepath', height=140, elem_id='image',
                        label=f'Image with {reading.channels} channels ({", ".join(suffixes)})')
        preview = gr.Image(label='Image', interactive=False, height=300, buttons=['fullscreen'], elem_id='preview')
    # Gradio would decode the file, without our limits. A subclass would be a component without scripts.
    image.preprocess = path_of
    return image, preview


def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, whose errors are shown on the page in one line, without a traceback."""
    @wraps(function)
    def guard(*args: Any) -> Any:
        try:
            return function(*args)
        except (ValueError, RuntimeError, MemoryError, OSError) as error:  # such as a GPU without free memory
            text = (str(error).splitlines() or [type(error).__name__])[0]
            raise gr.Error(escape(printable(text)), duration=None, print_exception=False) from error
    return guard


def theme() -> gr.themes.Base:
    """Gradio's default theme with fonts of the machine, which it would load from Google, and more contrast."""
    return gr.themes.Default(font=('system-ui', 'sans-serif'), font_mono=('monospace',)).set(
        body_text_color_subdued='*neutral_600', body_text_color_subdued_dark='*neutral_300',
        block_info_text_color='*neutral_600', block_info_text_color_dark='*neutral_300',
        block_label_text_color='*neutral_700', block_title_text_color='*neutral_700')


def path_of(payload: Any) -> str | None:
    """Path of an uploaded file."""
    return None if payload is None else payload.path


def describe(page: Page) -> str:
    """A line about the model and the images that it takes."""
    model = page.model
    place = f'on {model.device}' if isinstance(model, Model) else f'in {model.session.runtime}'
    article = 'An' if _KINDS[model.task][0] in 'aeiou' else 'A'
    text = f'{article} {_KINDS[model.task]} {place}'
    if isinstance(model, PredictsImages):
        names = ', '.join(model.classes[:8])
        names += f' and {len(model.classes) - 8} more' if len(model.classes) > 8 else ''
        text += f' for {len(model.classes)} class{"es" * (len(model.classes) != 1)}: {names}'
    return text + '. Images stay on this machine and are not stored.'


Update = tuple[Callable[..., Any], list[Any], list[Any]]  # function, inputs and outputs, for a new image


def _prediction(page: Page, visit: gr.State) -> Update | None:
    if not isinstance(page.model, PredictsImages):
        return None
    label, default, lowest = ANSWERS[page.model.task].THRESHOLD
    with gr.Tab('Prediction'):
        figure = _figure('Prediction', 'prediction')
        threshold = gr.Slider(lowest, 1, default, step=0.01, label=label, elem_id='threshold')
        legend = gr.HTML(padding=False, elem_id='legend')
        buttons = _downloads()

    def fill(view: View) -> list[Any]:
        return [view.figure, view.text, *_offered(view)]
    outputs = [figure, legend, *buttons]
    threshold.input(guarded(lambda *args: fill(page.show(*args))), [visit, threshold], outputs, show_progress='hidden',
                    trigger_mode='always_last')
    return lambda *args: fill(page.predict(*args)), [visit, threshold], outputs


def _reconstruction(page: Page, visit: gr.State) -> Update | None:
    if not isinstance(page.model, MaskedAutoencoder):
        return None
    with gr.Tab('Reconstruction'):
        figures = gr.HTML(padding=False, elem_id='reconstruction')
        ratio = gr.Slider(0.05, 0.95, round(float(page.model.net.mae.mask_ratio), 2), step=0.05, label='Mask ratio',
                          info='Fraction of the patches that the encoder does not see', elem_id='ratio')
        seed = gr.Slider(0, 99, 0, step=1, label='Mask', info='Seed of the mask')
        buttons = _downloads()

    def fill(*args: Any) -> list[Any]:
        view = page.reconstruct(*args)
        return [view.text, *_offered(view)]
    for slider in (ratio, seed):
        slider.input(guarded(fill), [visit, ratio, seed], [figures, *buttons], show_progress='hidden',
                     trigger_mode='always_last')
    return fill, [visit, ratio, seed], [figures, *buttons]


def _attention(page: Page, visit: gr.State) -> Update | None:
    if not page.blocks:
        return None
    with gr.Tab('Attention'):
        gr.HTML(html.message('Click a point of the image to see where the encoder looks from there.'), padding=False)
        figure = _figure('Attention', 'attention')
        block = gr.Dropdown([(f'block {i}', i) for i in page.blocks], value=page.blocks[-1], label='Block',
                            interactive=True)
        summary = gr.HTML(padding=False)

    def click(visit: Visit | None, block: int, event: gr.SelectData) -> list[Any]:
        return list(page.click(visit, block, (event.index[0], event.index[1])))[:2]

    def attend(*args: Any) -> list[Any]:
        return list(page.attend(*args))[:2]
    figure.select(guarded(click), [visit, block], [figure, summary], show_progress='hidden')
    block.input(guarded(attend), [visit, block], [figure, summary], show_progress='hidden')
    return attend, [visit, block], [figure, summary]


def _neighbors(page: Page, visit: gr.State) -> Update | None:
    if page.bank is None:
        return None
    with gr.Tab('Neighbors'):
        gr.HTML(html.message(f'The most similar of {len(page.bank):,} images, by the cosine of their features'),
                padding=False)
        found = gr.HTML(padding=False, elem_id='neighbors')
    return page.find, [visit], [found]


def _figure(label: str, name: str) -> gr.Image:
    # The label would cover a corner of the figure. The tab has the same name.
    return gr.Image(label=label, show_label=False, interactive=False, buttons=['download', 'fullscreen'], elem_id=name,
                    elem_classes='figure')


def _downloads() -> list[gr.DownloadButton]:
    with gr.Row():
        return [gr.DownloadButton('Download', visible=False, size='sm', min_width=140) for _ in range(_FILES)]


def _offered(view: View) -> list[Any]:
    """Updates of the buttons: one for each file, the others invisible."""
    files: list[Path | None] = [*view.files, *[None] * (_FILES - len(view.files))]
    return [gr.DownloadButton(visible=False) if file is None else
            gr.DownloadButton(f'Download {file.name}', value=str(file), visible=True) for file in files]
