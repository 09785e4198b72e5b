"""The same as `mae-backbone models`."""
from mae_backbone.cli.main import console

if __name__ == '__main__':
    console('models')
