"""The same as `mae-backbone visualize`."""
from mae_backbone.cli.main import console

if __name__ == '__main__':
    console('visualize')
