"""Makes llama.cpp crash without building a broken one: a library that is preloaded before it."""

from __future__ import annotations

import subprocess
from pathlib import Path

# libllama asks ggml for this function to get the buffers of repacked weights. A build that crashes
# with AMX crashes after this request, and libllama makes no other one before it.
EXTRA_BUFFERS = "ggml_backend_dev_get_extra_bufts"
EVERYTHING = "always"

_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

void * ggml_backend_reg_get_proc_address(void * reg, const char * name) {
    const char * fault = getenv("L4_TEST_FAULT");
    if (fault && (!strcmp(fault, "always") || !strcmp(fault, name))) raise(SIGILL);
    void * base = dlopen("libggml-base.so.0", RTLD_NOW | RTLD_NOLOAD);
    void * (*next)(void *, const char *) = dlsym(base, "ggml_backend_reg_get_proc_address");
    return next(reg, name);
}
"""


def fault_library(folder: Path) -> Path:
    """Compile the library into `folder`.

    With it in LD_PRELOAD, llama.cpp gets SIGILL at the place named in L4_TEST_FAULT: EXTRA_BUFFERS
    or EVERYTHING.
    """
    source, library = folder / "fault.c", folder / "fault.so"
    source.write_text(_SOURCE)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library
