"""Descendant processes, found by name."""

import psutil


def below(*names: str, pid: int | None = None) -> list[psutil.Process]:
    """List the descendants of a process (this one by default) with these names, skipping any that exit during the search."""
    children = psutil.Process(pid).children(recursive=True)
    return [process for process in children if name(process) in names]


def runs(process: psutil.Process) -> bool:
    """Report whether a process is running, that is, neither gone nor a zombie."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def name(process: psutil.Process) -> str:
    """Return the name of a process; empty if it is gone."""
    try:
        return str(process.name())
    except psutil.NoSuchProcess:
        return ""


def command(process: psutil.Process) -> str:
    """Return the first word of a process's command line; empty if it is gone."""
    try:
        return next(iter(process.cmdline()), "")
    except psutil.Error:
        return ""
