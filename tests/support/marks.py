"""Marks shared by test files: what a machine may lack without anything being wrong with it."""

import pytest

from upres.engine.runtime.openvino_cpu import OpenVINO

HAS_OPENVINO = OpenVINO().unavailable() is None
needs_openvino = pytest.mark.skipif(not HAS_OPENVINO, reason="OpenVINO is not installed, as nowhere on ARM")
