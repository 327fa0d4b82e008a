"""Conversations with a model: one question from a pipe, or a session in a terminal."""
