"""The same as `mae-backbone pretrain`."""
from mae_backbone.cli.main import console

if __name__ == '__main__':
    console('pretrain')
