"""From a trained model to what people look at: predictions for images of any size and videos, as pictures and files."""
