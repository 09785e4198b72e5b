"""The same as `mae-backbone info`."""
from mae_backbone.cli.main import console

if __name__ == '__main__':
    console('info')
