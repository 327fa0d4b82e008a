"""PDF: the text of each page, with scripts, form fields and comments in their places."""
