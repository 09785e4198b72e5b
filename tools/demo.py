"""The same as `mae-backbone demo`."""
from mae_backbone.cli.main import console

if __name__ == '__main__':
    console('demo')
