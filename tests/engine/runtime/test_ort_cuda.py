"""Options passed to ONNX Runtime's CUDA provider: the precision, the stream, and no TensorFloat-32."""

import onnx
import onnxruntime
import pytest

from upres.engine.core.errors import MemoryShortError, ModelError
from upres.engine.models import manifest
from upres.engine.runtime import ort, registry
from upres.engine.runtime.ort_cuda import CudaGraph
from upres.engine.runtime.ring import cuda
from upres.engine.runtime.ring.host import HostDevice

X2 = "realesr-animevideov3-x2"
PROVIDER = "CUDAExecutionProvider"


@pytest.fixture
def requests(monkeypatch):
    """Replace CUDA sessions by CPU ones; return what was requested, in order."""
    requests, session = [], onnxruntime.InferenceSession

    class Passing(session):
        def __init__(self, graph, options, *, providers):
            requests.append((graph, providers))
            super().__init__(graph, options, providers=["CPUExecutionProvider"])

        def get_providers(self):
            return [PROVIDER]

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [PROVIDER])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Passing)
    return requests


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_precision_is_set_in_the_graph_and_tensor_float_is_off(requests, precision):
    path, _ = manifest.find(X2)
    device = HostDevice()
    graph = CudaGraph(path, precision, device)
    [(model, [(name, settings)])] = requests
    assert (name, settings) == (PROVIDER, {"use_tf32": "0", "user_compute_stream": str(graph.compute.handle)})
    if precision == "fp32":
        assert model == path
    else:
        kinds = {tensor.data_type for tensor in onnx.load_from_string(model).graph.initializer}
        assert kinds == {onnx.TensorProto.FLOAT16}
    assert graph.report.endswith(f"CUDA {precision}")


def test_a_provider_that_is_registered_at_run_time_is_asked_for_the_same(requests, monkeypatch):
    path, _ = manifest.find(X2)
    settings = []

    class Options(onnxruntime.SessionOptions):
        def add_provider_for_devices(self, devices, requested):
            settings.append((devices, requested))

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "SessionOptions", Options)
    monkeypatch.setattr(ort, "_plugin_devices", lambda provider: ["GPU 0", "GPU 1"])
    graph = CudaGraph(path, "fp32", HostDevice())
    assert settings == [(["GPU 0"], {"use_tf32": "0", "user_compute_stream": str(graph.compute.handle)})]


@pytest.mark.parametrize(("quality", "precision"), [("exact", "fp32"), ("high", "fp16")])
def test_a_quality_is_a_precision_on_a_gpu(quality, precision):
    _, facts = manifest.find(X2)
    assert facts.variant(quality, registry.load("cuda").precisions()).precision == precision


@pytest.mark.parametrize(
    "text",
    [
        "Failed to allocate memory for requested buffer of size 4294967296",
        "CUDNN failure 4: CUDNN_STATUS_ALLOC_FAILED",
        "CUDA failure 2: out of memory",
    ],
)
def test_memory_that_is_short_is_told_from_other_errors(requests, monkeypatch, text):
    path, _ = manifest.find(X2)
    graph = CudaGraph(path, "fp32", HostDevice())

    def fail(*arguments):
        raise RuntimeError(text)

    monkeypatch.setattr(graph._session, "run_with_iobinding", fail)
    with pytest.raises(MemoryShortError, match="ONNX Runtime is out of memory"):
        graph.enqueue({})
    text = "CUDNN_STATUS_EXECUTION_FAILED"
    with pytest.raises(RuntimeError, match="EXECUTION_FAILED"):
        graph.enqueue({})


def test_without_cuda_core_the_runtime_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(ort, "_plugin_devices", lambda provider: ["GPU 0"])
    monkeypatch.setattr(cuda, "find_spec", lambda name: None)
    assert registry.load("cuda").unavailable() == "cuda-core is not installed; get it with: pip install 'upres[cuda]'"
    with pytest.raises(ModelError, match=r"upres\[cuda\]"):
        cuda.CudaDevice()
