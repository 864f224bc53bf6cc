"""Marks that several test files give: what a machine may lack although nothing is wrong with it."""

import pytest

from upres.engine.runtime.openvino_cpu import OpenVINO

HAS_OPENVINO = OpenVINO().unavailable() is None
needs_openvino = pytest.mark.skipif(not HAS_OPENVINO, reason="OpenVINO is not installed, as nowhere on ARM")
