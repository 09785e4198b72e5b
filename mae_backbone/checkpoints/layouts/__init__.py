"""Public layouts of ViT weights. Each is a table that renames weights to our names and back."""
