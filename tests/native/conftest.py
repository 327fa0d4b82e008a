"""Commands in these tests load llama.cpp anew: how it is loaded is what they are about."""

from __future__ import annotations

import pytest
from conftest import L4


@pytest.fixture
def l4(l4_from_nothing: L4) -> L4:
    return l4_from_nothing
