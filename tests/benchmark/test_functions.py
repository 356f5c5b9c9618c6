"""Forms of a function side by side: all of them run, with gradients where they are asked for."""

import pytest
import torch

from lab.benchmark.functions import function_milliseconds


@pytest.mark.parametrize("backward", [False, True])
def test_each_form_has_its_milliseconds(backward):
    saw, x = [], torch.ones(64, 64) / 64

    def repeated(times):
        def form(a, b):
            saw.append(a.requires_grad)
            for _ in range(times):
                a = a @ b
            return a

        return form

    forms = {"once": repeated(1), "often": repeated(60)}
    found = function_milliseconds(forms, [x, x.clone()], backward=backward, rounds=5, budget=0.5)
    assert list(found) == ["once", "often"]
    assert 0 < found["once"] < found["often"] < 1000
    assert set(saw) == {backward}
    assert not x.requires_grad
