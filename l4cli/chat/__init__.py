"""`l4 chat`: conversations with a model, in a terminal or as one question from a pipe."""
