"""Models and their layers. This package depends only on torch and timm."""
