"""`python -m mae_backbone COMMAND`, the same as `mae-backbone COMMAND`."""
from mae_backbone.cli.main import console

if __name__ == '__main__':
    console()
