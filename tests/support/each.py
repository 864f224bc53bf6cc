"""Run commands of `upres` one after the other in this one process: JSON of words and variables in, what came of each out."""

import io
import json
import os
import sys
from contextlib import redirect_stderr, redirect_stdout

from upres.service.cli.main import main


def ended():
    try:
        main()
    except SystemExit as end:
        return end.code or 0
    return 0


def run(words, variables):
    before = dict(os.environ)
    os.environ.update(variables)
    sys.argv = ["upres", *words]
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as said:
        code = ended()
    os.environ.clear()
    os.environ.update(before)
    return code, out.getvalue(), said.getvalue()


if __name__ == "__main__":
    json.dump([run(*command) for command in json.load(sys.stdin)], sys.stdout)
