"""Spans as the service asks for them. Those of this module are nobody's, for tracing is off; `otel` has the ones that are sent."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from upres.service.domain import trace_context

Fact = str | int | float | bool
NONE: Mapping[str, Fact] = {}


class Span:
    """A piece of work. traceparent: by which its parts name it as their parent; None where nobody traces."""

    traceparent: str | None = None

    def end(
        self, problem: str | None = None, facts: Mapping[str, Fact] = NONE, *, name: str | None = None, ago: float = 0.0
    ) -> None:
        """End it, `ago` seconds before now. problem: why it failed, if it did. name: what it turned out to be."""


OFF = Span()


class Tracing:
    """Makes spans. on: whether they are seen by anybody."""

    on = False

    def span(
        self,
        name: str,
        parent: str | None,
        facts: Mapping[str, Fact] = NONE,
        *,
        ago: float = 0.0,
        serves: bool = False,
    ) -> Span:
        """Start a span, `ago` seconds before now. parent: its parent's traceparent. serves: it is what a client asked for."""
        return OFF

    @contextmanager
    def request(self, name: str, sent: Sequence[str], facts: Mapping[str, Fact] = NONE) -> Iterator[dict[str, Any]]:
        """Make a span of what is done inside, for which logs and jobs then name it. sent: the traceparents that came with it.

        Yields what becomes known of it: `name`, `problem`, and facts by their names.
        """
        known: dict[str, Any] = {}
        if not self.on:
            yield known
            return
        span = self.span(name, trace_context.accepted(sent), facts, serves=True)
        trace_context.current.set(span.traceparent)  # to the end of its task, for errors are logged behind this
        try:
            yield known
        except Exception as error:
            known.setdefault("problem", type(error).__name__)
            raise
        finally:
            span.end(known.pop("problem", None), known, name=known.pop("name", None))

    @contextmanager
    def work(self, name: str, parent: str | None, facts: Mapping[str, Fact] = NONE) -> Iterator[dict[str, Fact]]:
        """Make a span of what is done inside, which fails where that raises. Yields facts that become known of it, by name."""
        known: dict[str, Fact] = {}
        span, problem = self.span(name, parent, facts), None
        try:
            yield known
        except BaseException as error:
            problem = type(error).__name__
            raise
        finally:
            span.end(problem, known)

    def stages(self, parent: str | None, stages: Iterable[Mapping[str, Any]], longest: float) -> None:
        """Make spans of stages that an attempt has reported, none of which began more than `longest` seconds ago."""
        for stage in stages:
            facts = {"upres.busy_seconds": stage["seconds"], "upres.frames": stage["frames"]}
            began = min(stage["began_ago"], longest)
            self.span(stage["name"], parent, facts, ago=began).end(ago=min(stage["ended_ago"], began))

    def close(self) -> None:
        """Send what was not sent yet, for at most some seconds."""
