"""What has to be settled before the first test module imports torch, or Triton by way of it."""

import os

# The tensors of tests are small, and threads cost them more than they give. torch reads it when it
# is first imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

if not torch.cuda.is_available():
    # For tests/test_scan_gpu.py. Triton reads it when it is first imported, which several parts of
    # torch do (counting operations is one).
    os.environ.setdefault("TRITON_INTERPRET", "1")

import shapes

shapes.check(*shapes.ROOMS)
