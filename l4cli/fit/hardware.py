"""What a machine has: memory, devices, cores, and how fast its memory is.

`probe` looks at this one; `described` makes one of what the user says.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from l4cli.amounts import GIB
from l4cli.native.cpu import num_physical_cores
from l4cli.native.memory import free_memory_bytes, memory_bytes

# Read rates of memory in bytes a second. Source: the vendors' data sheets.
_GPU_BANDWIDTH = {
    "h200": 4800e9, "h100 nvl": 3900e9, "h100": 3350e9, "a100": 1935e9, "l40": 864e9, "l4": 300e9,
    "a10": 600e9, "a6000": 768e9, "rtx 6000 ada": 960e9, "v100": 900e9, "t4": 320e9,
    "5090": 1792e9, "5080": 960e9, "5070": 672e9, "4090": 1008e9, "4080": 717e9, "4070": 504e9,
    "4060": 272e9, "3090": 936e9, "3080": 760e9, "3060": 360e9, "mi300": 5300e9, "7900": 960e9,
    "m3 ultra": 819e9, "m2 ultra": 800e9, "m4 max": 546e9, "m3 max": 400e9, "m2 max": 400e9,
}  # fmt: skip
UNKNOWN_GPU_BANDWIDTH = 900e9  # of a card of 24 GB
UNKNOWN_RAM_BANDWIDTH = 80e9  # two channels of DDR5-5600, less what is lost on the way
DISK_BANDWIDTH = 2e9  # an NVMe drive, read through the page cache

# Qtypes that ggml's CPU kernels want in an order of their own. Source: ggml-cpu/repack.cpp.
_REPACKED = {
    "AVX2": ("Q4_0", "Q4_K", "IQ4_NL", "MXFP4"),
    "AVX512": ("Q2_K",),
    "MATMUL_INT8": ("Q4_0", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "IQ4_NL", "MXFP4", "Q1_0"),
    "DOTPROD": ("Q4_0", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "IQ4_NL", "MXFP4"),
}
_TYPICAL_CPU = frozenset(_REPACKED["AVX2"])
_KEPT_RAM, _KEPT_GPU = 1 * GIB, 1 * GIB  # for the system; for the driver's context and the screen


@dataclass(frozen=True, slots=True)
class Gpu:
    """A device with memory of its own. Bytes, and bytes a second."""

    name: str
    total: int
    free: int
    bandwidth: float

    @property
    def usable(self) -> int:
        """What a model may take."""
        return max(0, self.free - _KEPT_GPU)


@dataclass(frozen=True, slots=True)
class Hardware:
    """A machine. Bytes, and bytes a second; `repacks` names qtypes that are copied on loading."""

    ram_total: int
    ram_free: int
    ram_bandwidth: float
    gpus: tuple[Gpu, ...] = ()
    repacks: frozenset[str] = frozenset()
    is_described: bool = False

    @property
    def ram_usable(self) -> int:
        """What a model may take."""
        return max(0, self.ram_free - _KEPT_RAM)


def probe(*, bandwidth: float | None = None) -> Hardware:
    """This machine. `bandwidth` of its memory is the typical one unless given."""
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
    """A machine of so much memory; what is not said (`ram` None) is as `here`."""
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
    """A graphics card of which only the size is known."""
    return Gpu(f"GPU {number}", size, size, bandwidth or UNKNOWN_GPU_BANDWIDTH)


def gpu_bandwidth(name: str) -> float:
    """The memory bandwidth of a card by its name: the longest known one in it."""
    known = [key for key in _GPU_BANDWIDTH if key in name.lower()]
    return _GPU_BANDWIDTH[max(known, key=len)] if known else UNKNOWN_GPU_BANDWIDTH


def measure_bandwidth() -> float:
    """Bytes a second that all cores together read from memory: a fifth of a second's work."""
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    n_threads, n_rounds = num_physical_cores(), 6
    blocks = [np.ones(1 << 23, np.float32) for _ in range(n_threads)]  # 32 MiB each
    n_bytes, shortest = sum(block.nbytes for block in blocks), 1.0
    with ThreadPoolExecutor(n_threads) as pool:
        for _ in range(n_rounds):  # the best one: what else runs here may be gone by then
            began = time.perf_counter()
            list(pool.map(np.max, blocks))
            shortest = min(shortest, time.perf_counter() - began)
    return n_bytes / shortest


def _repacked(features: frozenset[str]) -> frozenset[str]:
    if os.environ.get("GGML_CPU_REPACK") == "0":
        return frozenset()
    return frozenset(qtype for feature in features for qtype in _REPACKED.get(feature, ()))
