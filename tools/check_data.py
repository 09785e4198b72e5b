"""The same as `mae-backbone check`."""
from mae_backbone.cli.main import console

if __name__ == '__main__':
    console('check')
