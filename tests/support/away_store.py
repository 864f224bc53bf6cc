"""An object store in a folder that can be unavailable."""

from upres.engine.core.errors import TargetError
from upres.service.domain.errors import UnavailableError
from upres.service.storage.results import Results


class Away(Results):
    """Store that can be unavailable. seen: keys of the objects written."""

    def __init__(self, folder):
        super().__init__(str(folder / "store"), "job")
        self.away, self.seen = False, []

    async def write(self, key, chunks, size):
        self._check()
        await super().write(key, chunks, size)
        self.seen.append(key)

    async def list_objects(self, place, after=None):
        if self.away:
            raise UnavailableError("it is away")
        return await super().list_objects(place, after)

    def _check(self):
        if self.away:
            raise TargetError("it is away")
