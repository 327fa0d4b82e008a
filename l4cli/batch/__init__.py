"""Answers a file of prompts with a file of answers (`l4 run`)."""
