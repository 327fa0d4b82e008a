"""A machine's memory, graphics cards and memory bandwidth.

`probe` returns this machine's; `described` returns those of a machine that the user describes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from l4cli.amounts import GIB
from l4cli.native.cpu import num_physical_cores
from l4cli.native.memory import free_memory_bytes, memory_bytes

# Memory bandwidth in bytes per second. Source: the vendors' data sheets.
_GPU_BANDWIDTH = {
    "h200": 4800e9, "h100 nvl": 3900e9, "h100": 3350e9, "a100": 1935e9, "l40": 864e9, "l4": 300e9,
    "a10": 600e9, "a6000": 768e9, "rtx 6000 ada": 960e9, "v100": 900e9, "t4": 320e9,
    "5090": 1792e9, "5080": 960e9, "5070": 672e9, "4090": 1008e9, "4080": 717e9, "4070": 504e9,
    "4060": 272e9, "3090": 936e9, "3080": 760e9, "3060": 360e9, "mi300": 5300e9, "7900": 960e9,
    "m3 ultra": 819e9, "m2 ultra": 800e9, "m4 max": 546e9, "m3 max": 400e9, "m2 max": 400e9,
}  # fmt: skip
UNKNOWN_GPU_BANDWIDTH = 900e9  # a typical card with 24 GB
UNKNOWN_RAM_BANDWIDTH = 80e9  # two channels of DDR5-5600 reach this in practice
DISK_BANDWIDTH = 2e9  # an NVMe drive, read through the page cache

# For each CPU feature, the qtypes that ggml copies into the order of its kernels when it loads
# them. Source: ggml-cpu/repack.cpp.
_REPACKED = {
    "AVX2": ("Q4_0", "Q4_K", "IQ4_NL", "MXFP4"),
    "AVX512": ("Q2_K",),
    "MATMUL_INT8": ("Q4_0", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "IQ4_NL", "MXFP4", "Q1_0"),
    "DOTPROD": ("Q4_0", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "IQ4_NL", "MXFP4"),
}
_TYPICAL_CPU = frozenset(_REPACKED["AVX2"])
# Memory left free: in RAM for the system, on a card for the driver's context and the screen.
KEPT_RAM, KEPT_GPU = 1 * GIB, 1 * GIB


@dataclass(frozen=True, slots=True)
class Gpu:
    """A graphics card. Memory in bytes, bandwidth in bytes per second."""

    name: str
    total: int
    free: int
    bandwidth: float

    @property
    def usable(self) -> int:
        """Bytes that a model may take."""
        return max(0, self.free - KEPT_GPU)


@dataclass(frozen=True, slots=True)
class Hardware:
    """A machine. Memory in bytes, bandwidth in bytes per second.

    repacks: qtypes that the CPU backend copies into the order of its kernels on loading.
    is_described: whether the user described this machine, instead of `probe`.
    """

    ram_total: int
    ram_free: int
    ram_bandwidth: float
    gpus: tuple[Gpu, ...] = ()
    repacks: frozenset[str] = frozenset()
    is_described: bool = False

    @property
    def ram_usable(self) -> int:
        """Bytes that a model may take."""
        return max(0, self.ram_free - KEPT_RAM)


def probe(*, bandwidth: float | None = None) -> Hardware:
    """Return this machine's hardware.

    bandwidth: of its RAM in bytes per second; None is a typical value.
    """
    from l4cli.engine.llamacpp.devices import cpu_features, devices

    gpus = tuple(
        Gpu(device.name, device.total, device.free, gpu_bandwidth(device.name))
        for device in devices()
    )
    return Hardware(
        ram_total=memory_bytes(),
        ram_free=free_memory_bytes(),
        ram_bandwidth=bandwidth or UNKNOWN_RAM_BANDWIDTH,
        gpus=gpus,
        repacks=frozenset() if gpus else _repacked(cpu_features()),
    )


def described(
    *, ram: int | None, ram_bandwidth: float | None, gpus: Sequence[Gpu], here: Hardware
) -> Hardware:
    """Return the hardware of a machine that the user describes.

    ram: bytes, all of them free; None is as much as `here` has.
    ram_bandwidth: bytes per second; None is that of `here` if `ram` is None, else a typical value.
    gpus: its graphics cards.
    """
    return Hardware(
        ram_total=here.ram_total if ram is None else ram,
        ram_free=here.ram_free if ram is None else ram,
        ram_bandwidth=ram_bandwidth
        or (here.ram_bandwidth if ram is None else UNKNOWN_RAM_BANDWIDTH),
        gpus=tuple(gpus),
        repacks=frozenset() if gpus else _TYPICAL_CPU,
        is_described=True,
    )


def described_gpu(number: int, size: int, bandwidth: float | None) -> Gpu:
    """Return a card of `size` bytes; `bandwidth` None is a typical value."""
    return Gpu(f"GPU {number}", size, size, bandwidth or UNKNOWN_GPU_BANDWIDTH)


def gpu_bandwidth(name: str) -> float:
    """Return a card's memory bandwidth: that of the longest known name within its name."""
    known = [key for key in _GPU_BANDWIDTH if key in name.lower()]
    return _GPU_BANDWIDTH[max(known, key=len)] if known else UNKNOWN_GPU_BANDWIDTH


def measure_bandwidth() -> float:
    """Measure the bytes per second that all cores together read from memory, in about 0.2 s."""
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    n_threads, n_rounds = num_physical_cores(), 6
    blocks = [np.ones(1 << 23, np.float32) for _ in range(n_threads)]  # 32 MiB each
    n_bytes, shortest = sum(block.nbytes for block in blocks), 1.0
    with ThreadPoolExecutor(n_threads) as pool:
        for _ in range(n_rounds):  # the fastest counts: other programs may disturb the others
            began = time.perf_counter()
            list(pool.map(np.max, blocks))
            shortest = min(shortest, time.perf_counter() - began)
    return n_bytes / shortest


def _repacked(features: frozenset[str]) -> frozenset[str]:
    if os.environ.get("GGML_CPU_REPACK") == "0":
        return frozenset()
    return frozenset(qtype for feature in features for qtype in _REPACKED.get(feature, ()))
