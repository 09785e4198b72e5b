"""The same as `mae-backbone benchmark`."""
from mae_backbone.cli.main import console

if __name__ == '__main__':
    console('benchmark')
