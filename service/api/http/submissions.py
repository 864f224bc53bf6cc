"""The two routes that accept a video: submit it as a job, or estimate its cost."""

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

from fastapi import Form, Header, Request
from starlette.datastructures import UploadFile

from upres.engine.core.errors import SourceError
from upres.engine.core.text import counted
from upres.service.domain.checks import problems_of
from upres.service.domain.errors import InvalidError, TooLargeError, TooSmallError
from upres.service.domain.spec import SIDES, Spec
from upres.service.execution.probe.process import Facts
from upres.service.jobs.service import Jobs
from upres.service.storage.job_store import Job

from .forms import PriceForm, Problems, UpscaleForm, fingerprint
from .schemas import Data, Estimate, Submitted

VIDEO = "The video must be a file of type: mp4, mpeg, mov, avi, wmv, ogg"
MULTIPART = "multipart/form-data"
SHORTEST_SECONDS = 0.1
FRAME_RATE = 30  # assumed for a clip given only by its size and duration
LONGEST_KEY = 255
IDEMPOTENCY = (
    "A key chosen by the client, a new one for each upload. A repeated request with the same key and body returns the job of the"
    " first one. Without a key, a client that receives no response cannot know whether a job was created, and a repeated request"
    " may create a second one."
)


class Submissions:
    """The routes. upload_bytes: size of the largest video. incoming: folder for uploads before acceptance.

    url_problems: returns the problems of a webhook's URL, by field; it resolves the host name.
    """

    def __init__(
        self,
        jobs: Jobs,
        *,
        upload_bytes: int,
        incoming: Path,
        url_problems: Callable[[str | None], Awaitable[Problems]],
    ) -> None:
        self._jobs = jobs
        self._upload_bytes = upload_bytes
        self._incoming = incoming
        self._url_problems = url_problems

    async def submit(
        self,
        request: Request,
        form: Annotated[UpscaleForm, Form(media_type=MULTIPART)],
        idempotency_key: Annotated[str | None, Header(description=IDEMPOTENCY)] = None,
    ) -> Data[Submitted]:
        """Accept a video to be upscaled; one response lists every problem of the request."""
        spec, problems = form.spec(), form.problems()
        problems = {**problems_of(spec, self._jobs.policy.limits, self._jobs.refused), **problems}
        problems = {**await self._url_problems(spec.webhook_url), **problems}
        if len(idempotency_key or "") > LONGEST_KEY:
            problems["idempotency_key"] = [f"The Idempotency-Key must have at most {LONGEST_KEY} characters."]
        with tempfile.TemporaryDirectory(dir=self._incoming) as folder:
            path = Path(folder) / "source"
            wrong, _ = await self._probe_upload(form.video, path, spec, request.state.owner)
            problems |= {"video": wrong} if wrong else {}
            if problems or not isinstance(form.video, UploadFile):
                raise InvalidError(problems)
            job = await self._create_job(request, spec, form.video, idempotency_key or None)
            job = await self._jobs.accept_source(job, path)
        return Data(data=Submitted(request_id=job.request_id))

    async def price(self, request: Request, form: Annotated[PriceForm, Form(media_type=MULTIPART)]) -> Data[Estimate]:
        """Estimate an upscale: its price, which is 0, and the approximate time in seconds."""
        spec, problems = form.spec(), form.problems()
        problems = {**problems_of(spec, self._jobs.policy.limits, self._jobs.refused), **problems}
        if form.video is None:
            problems = {**self._measure_problems(form, spec), **problems}
            facts = None if problems else _facts(form)
        else:
            with tempfile.TemporaryDirectory(dir=self._incoming) as folder:
                wrong, facts = await self._probe_upload(form.video, Path(folder) / "source", spec, request.state.owner)
            problems |= {"video": wrong} if wrong else {}
        if problems or facts is None:
            raise InvalidError(problems)
        speed = await self._jobs.seconds_per_pixel()
        seconds = facts.width * facts.height * facts.frames * speed
        return Data(data=Estimate(price=0, estimated_seconds=round(seconds, 2)))

    def _measure_problems(self, form: PriceForm, spec: Spec) -> Problems:
        """Check a clip's size and duration as those of a video would be checked; the duration may be missing."""
        problems: Problems = {}
        low, high = SIDES
        for name in ("width", "height"):
            side = getattr(form, name)
            if side is None:
                problems[name] = [f"The {name} field is required without a video."]
            elif isinstance(side, int) and not low <= side <= high:
                problems[name] = [f"The {name} must be between {low} and {high}."]
        longest = self._jobs.policy.limits.longest(spec)
        if isinstance(form.duration, float):
            if form.duration < SHORTEST_SECONDS:
                problems["duration"] = [f"The duration must be at least {SHORTEST_SECONDS} seconds."]
            elif longest is not None and form.duration > longest:
                problems["duration"] = [
                    f"The duration must be at most {counted(longest, 'second')} for {spec.model}, unless `split` is set."
                ]
        return problems

    async def _probe_upload(self, video: object, path: Path, spec: Spec, owner: str) -> tuple[list[str], Facts | None]:
        """Copy an upload to `path`, if there is room, and probe it; return its problems, and its facts if it has none."""
        if not isinstance(video, UploadFile):
            return ["The video field is required."], None
        if (video.size or 0) > self._upload_bytes:
            return [
                f"The video must not be larger than {self._upload_bytes} bytes; the operator's setting is upload_bytes."
            ], None
        self._jobs.check_room(video.size or 0)
        await asyncio.to_thread(_copy, video, path)
        try:
            return [], await self._jobs.probe(path, spec, owner)
        except (TooLargeError, TooSmallError) as error:
            return [str(error)], None
        except SourceError as error:
            return [f"{VIDEO} ({error})."], None

    async def _create_job(self, request: Request, spec: Spec, video: UploadFile, idempotency: str | None) -> Job:
        body = await asyncio.to_thread(fingerprint, spec, video) if idempotency else None
        base_url = str(request.base_url)  # for links in webhooks
        job, _ = await self._jobs.create(
            spec,
            request.state.owner,
            idempotency=idempotency,
            fingerprint=body,
            base_url=base_url,
            source_name=video.filename,
        )
        return job


def _facts(form: PriceForm) -> Facts:
    return Facts(form.width or 0, form.height or 0, round((form.duration or 0) * FRAME_RATE))


def _copy(video: UploadFile, path: Path) -> None:
    with path.open("wb") as file:
        shutil.copyfileobj(video.file, file)
