"""Entry point of `python -m upres`: the command, where its folder is not on the PATH. No package: `upres` is a namespace."""

from upres.service.cli.main import main

if __name__ == "__main__":
    main()
