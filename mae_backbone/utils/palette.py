"""Colors for classes without a palette."""
import colorsys

Color = tuple[int, int, int]  # red, green, blue in 0..255


def palette(num_colors: int) -> list[Color]:
    """Returns distinct RGB colors in 0..255: hues at multiples of the golden ratio, alternating in brightness."""
    return [_to_rgb(i * 0.618034 % 1, 0.8, 0.6 + 0.4 * (i % 2)) for i in range(num_colors)]


def class_colors(num_classes: int, own: object = None) -> list[Color]:
    """Colors of the classes of a data set: its palette if it has a valid color for each class, else `palette`."""
    if isinstance(own, (list, tuple)) and len(own) == num_classes and all(map(_is_color, own)):
        return [(int(color[0]), int(color[1]), int(color[2])) for color in own]
    return palette(num_classes)


def _is_color(value: object) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 3 and all(
        isinstance(level, int) and 0 <= level <= 255 for level in value)


def _to_rgb(hue: float, saturation: float, value: float) -> Color:
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)
