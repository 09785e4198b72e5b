"""Frozen features: extracted once, kept on the disk, and the probes that judge them."""
