"""Tracing interface of the service. The classes in this module do nothing (tracing is off); `otel` has those that send spans."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from upres.service.domain import trace_context

Fact = str | int | float | bool
NONE: Mapping[str, Fact] = {}


class Span:
    """A span. traceparent: by which child spans refer to it; None if tracing is off."""

    traceparent: str | None = None

    def end(
        self, problem: str | None = None, facts: Mapping[str, Fact] = NONE, *, name: str | None = None, ago: float = 0.0
    ) -> None:
        """End the span, `ago` seconds before now. problem: why it failed, if it did. name: replaces its name."""


OFF = Span()


class Tracing:
    """Creates spans. on: whether they are recorded."""

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
        """Start a span, `ago` seconds before now. parent: traceparent of its parent. serves: it serves a client's request."""
        return OFF

    @contextmanager
    def request(self, name: str, sent: Sequence[str], facts: Mapping[str, Fact] = NONE) -> Iterator[dict[str, Any]]:
        """Run the body in the span of a request, to which its logs and jobs then refer. sent: traceparents of the request.

        Yields a dictionary to which the body adds `name`, `problem`, and facts.
        """
        known: dict[str, Any] = {}
        if not self.on:
            yield known
            return
        span = self.span(name, trace_context.accepted(sent), facts, serves=True)
        trace_context.current.set(span.traceparent)  # until the task ends, as errors are logged after this body
        try:
            yield known
        except Exception as error:
            known.setdefault("problem", type(error).__name__)
            raise
        finally:
            span.end(known.pop("problem", None), known, name=known.pop("name", None))

    @contextmanager
    def work(self, name: str, parent: str | None, facts: Mapping[str, Fact] = NONE) -> Iterator[dict[str, Fact]]:
        """Run the body in a span, which fails if the body raises. Yields a dictionary to which the body adds facts."""
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
        """Record spans of stages reported by an attempt; their start is limited to `longest` seconds ago."""
        for stage in stages:
            facts = {"upres.busy_seconds": stage["seconds"], "upres.frames": stage["frames"]}
            began = min(stage["began_ago"], longest)
            self.span(stage["name"], parent, facts, ago=began).end(ago=min(stage["ended_ago"], began))

    def close(self) -> None:
        """Send the remaining spans, within a few seconds."""
