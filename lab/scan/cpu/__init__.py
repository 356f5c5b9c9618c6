"""Compiled kernels for the CPU: one pass over memory forwards, one backwards, without a compiler.

Each module holds the two kernels of one scan, `forward` and `backward`. Both take the inputs as
contiguous tensors and fill outputs that the caller has allocated (see `lab.scan.operators`).
"""
