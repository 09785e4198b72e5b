"""The same as `mae-backbone publish`."""
from mae_backbone.cli.main import console

if __name__ == '__main__':
    console('publish')
