"""The same as `mae-backbone quickstart`."""
from mae_backbone.cli.main import console

if __name__ == '__main__':
    console('quickstart')
