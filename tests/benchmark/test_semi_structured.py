"""2:4 blocks are packed so that a GPU takes them, and multiply as the dense ones do."""

import pytest
import torch
from numeric import gap

from lab.benchmark import semi_structured
from lab.linalg.sparsity import is_two_four


@pytest.mark.parametrize("b", [16, 64, 128])
def test_packed_blocks_are_two_four_and_give_the_same_products(b):
    packed = []

    def compress(A):
        packed.append(A)
        return A

    calls = semi_structured.products(
        b, states=256, columns=5, device="cpu", dtype=torch.float64, compress=compress
    )
    dense, sparse = calls["dense"](), calls["2:4"]()
    assert dense.shape == (256 // b, b, 5)
    assert gap(sparse, dense) < 1e-13
    for A in packed:
        assert A.shape == (max(64, b), max(64, b))
        assert A.is_contiguous()
        assert is_two_four(A)
        assert (A != 0).sum() == len(A) * b // 2  # packing adds zeros, and drops nothing


def test_without_such_a_gpu_nothing_is_timed(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    with pytest.raises(RuntimeError, match="no GPU here multiplies 2:4"):
        semi_structured.time_ratio(64)


@pytest.mark.skipif(not semi_structured.has_sparse_cores(), reason="no GPU with sparse cores")
@pytest.mark.filterwarnings("ignore:.*SparseSemiStructuredTensor is in prototype")
@pytest.mark.parametrize("b", [16, 64])
def test_a_gpu_multiplies_compressed_blocks(b):
    calls = semi_structured.products(
        b, states=256, columns=128, device="cuda", dtype=torch.bfloat16
    )
    assert gap(calls["2:4"]().float(), calls["dense"]().float()) < 0.1
    assert semi_structured.time_ratio(b, states=256, columns=128, budget=0.1) > 0
