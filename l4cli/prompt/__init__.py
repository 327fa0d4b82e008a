"""Turns messages into token ids with the model's chat template, safe from injection."""

from l4cli.prompt.encode import PromptEncoder

__all__ = ["PromptEncoder"]
