"""The same as `mae-backbone export`."""
from mae_backbone.cli.main import console

if __name__ == '__main__':
    console('export')
