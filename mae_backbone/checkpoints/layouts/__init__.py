"""Public layouts of ViT weights, each a table that renames to our names and back."""
