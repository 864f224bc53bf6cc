"""Processes below one, by what they call themselves."""

import psutil


def below(*names: str, pid: int | None = None) -> list[psutil.Process]:
    """List the processes of these names below one (this one, if None), leaving out what ends while they are looked at."""
    found = psutil.Process(pid).children(recursive=True)
    return [process for process in found if name(process) in names]


def runs(process: psutil.Process) -> bool:
    """Report whether a process has not ended, be its parent to hear of it still."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def name(process: psutil.Process) -> str:
    """Give what a process calls itself; nothing where it is gone."""
    try:
        return str(process.name())
    except psutil.NoSuchProcess:
        return ""


def command(process: psutil.Process) -> str:
    """Give the first word of a process's command line; nothing where it is gone."""
    try:
        return next(iter(process.cmdline()), "")
    except psutil.Error:
        return ""
