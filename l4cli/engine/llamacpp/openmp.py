"""How long llama.cpp's threads spin at a barrier before they sleep.

OpenMP reads it once, when llama.cpp is loaded. By default it is long: on 2 cores a tenth slower,
and tenfold where another process wants a core, too, since the spinning thread spends the share of
time that the other would compute in. With many threads waking them might cost more than it saves,
which has not been measured.
"""

from __future__ import annotations

import os

_SPIN_COUNT = "2000"
_FEW_CORES = 8


def sleep_sooner() -> None:
    """Set it for this process, unless the user has; call before llama.cpp is loaded."""
    is_set = os.environ.keys() & {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}
    if not is_set and (os.cpu_count() or 1) <= _FEW_CORES:
        os.environ["GOMP_SPINCOUNT"] = _SPIN_COUNT
