"""Entry point of `python -m upres`, for when the command is not on the PATH. Not a package: `upres` is a namespace."""

from upres.service.cli.main import main

if __name__ == "__main__":
    main()
