"""How a classifier fares on images that are not as those of its training: other sets, and corrupted ones."""
