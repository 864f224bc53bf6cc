"""Repeated warnings are limited to a few lines, which report how many there were."""

import logging

from upres.service.domain.repeated_lines import MOST_LINES, WINDOW_SECONDS, RepeatLimit


def test_a_line_that_repeats_is_limited_and_counted_and_others_are_not():
    now, lines = [0.0], []
    logger = logging.getLogger("test of repeats")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    handler.addFilter(RepeatLimit(lambda: now[0]))
    logger.addHandler(handler)
    try:
        for number in range(1000):
            logger.warning("accept failed (%d)", number)
            logger.info("job %d", number)
        logger.warning("something else")
        assert sum(line.startswith("accept") for line in lines) == MOST_LINES
        assert sum(line.startswith("job") for line in lines) == 1000 and "something else" in lines
        now[0] += WINDOW_SECONDS
        logger.warning("accept failed (%d)", 1001)
        assert lines[-1] == f"accept failed (1001) [{1000 - MOST_LINES} more such lines were left out]"
    finally:
        logger.removeHandler(handler)
