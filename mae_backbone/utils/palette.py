"""Colors for classes without a palette."""
import colorsys

Color = tuple[int, int, int]  # red, green, blue in 0..255


def palette(num_colors: int) -> list[Color]:
    """Returns distinct RGB colors in 0..255: hues at multiples of the golden ratio, alternating in brightness."""
    return [_to_rgb(i * 0.618034 % 1, 0.8, 0.6 + 0.4 * (i % 2)) for i in range(num_colors)]


def _to_rgb(hue: float, saturation: float, value: float) -> Color:
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)
