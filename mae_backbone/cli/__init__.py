"""The command line: one module per command.

A command module has `add_options(parser)` and `run(args)` and imports nothing heavy before `run`, so that `--help` is
printed at once.
"""
