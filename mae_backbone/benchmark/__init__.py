"""How fast the parts are, each against a plain way to do the same."""
