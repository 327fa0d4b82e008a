"""Quantizes rows of weights.

quantize.py      calls ggml's kernels through ctypes, or kquants.py for large conversions
kquants.py       makes Q4_K, Q5_K and Q6_K with the same bytes as ggml, but faster
kquant_simd.py   the slow parts of kquants.py, compiled by numba, for 256 blocks at once
"""
