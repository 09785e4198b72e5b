"""The same as `mae-backbone transfer`."""
from mae_backbone.cli.main import console

if __name__ == '__main__':
    console('transfer')
