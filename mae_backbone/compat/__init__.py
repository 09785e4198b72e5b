"""Living beside mmcv and other distributions."""
