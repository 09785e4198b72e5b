"""The same as `mae-backbone convert`."""
from mae_backbone.cli.main import console

if __name__ == '__main__':
    console('convert')
