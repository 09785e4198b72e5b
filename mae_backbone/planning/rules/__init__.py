"""Rules that choose the settings of a plan from a fingerprint, with one module for each topic and task."""
