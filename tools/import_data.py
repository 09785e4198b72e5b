"""The same as `mae-backbone import`."""
from mae_backbone.cli.main import console

if __name__ == '__main__':
    console('import')
