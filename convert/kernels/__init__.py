"""Quantizing rows of weights.

quantize.py      ggml's own kernels through ctypes, or for much work kquants.py, of the same
                 bytes
kquants.py       Q4_K, Q5_K and Q6_K; their searches are made by kquant_simd.py (numba) for
                 hundreds of blocks side by side
"""
