"""`python -m mae_backbone COMMAND`, the same as `mae-backbone COMMAND`."""
import sys

if __name__ == '__main__':
    try:
        from mae_backbone.cli.main import console
        console()
    except KeyboardInterrupt:  # before or after the command
        sys.exit(130)
