"""How fast a model is on this machine: prefill and decode over batch and depth."""
