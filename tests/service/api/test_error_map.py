"""Responses to errors over HTTP and gRPC."""

import errno
import json
import os

import grpc
import pytest

from upres.service.api.grpc.status import status_of
from upres.service.api.http.errors import response_of


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_is_full_is_said_to_be_whoever_finds_out(number):
    error = OSError(number, os.strerror(number), "/secret/path")
    response, status = response_of(error), status_of(error)
    assert response.status_code == 503 and response.headers["Retry-After"]
    assert status.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    for message in (json.loads(response.body)["message"], status.details):
        assert "disk of the server is full" in message and "secret" not in message


def test_other_errors_of_the_system_disclose_nothing():
    error = OSError(errno.EIO, os.strerror(errno.EIO), "/secret/path")
    response, status = response_of(error), status_of(error)
    assert response.status_code == 500 and json.loads(response.body) == {"message": "Server Error"}
    assert (status.code, status.details) == (grpc.StatusCode.INTERNAL, "internal error")
