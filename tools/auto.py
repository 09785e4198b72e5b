"""The same as `mae-backbone auto`."""
from mae_backbone.cli.main import console

if __name__ == '__main__':
    console('auto')
