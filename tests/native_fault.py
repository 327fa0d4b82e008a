"""A llama.cpp that crashes, without building one: a library that is loaded before it."""

from __future__ import annotations

import subprocess
from pathlib import Path

# libllama asks ggml for the buffers of repacked weights by this function, and for nothing else
# before: a build that crashes with AMX dies behind it.
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

    With it in LD_PRELOAD, llama.cpp gets SIGILL where L4_TEST_FAULT says: EXTRA_BUFFERS, or
    EVERYTHING.
    """
    source, library = folder / "fault.c", folder / "fault.so"
    source.write_text(_SOURCE)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library
