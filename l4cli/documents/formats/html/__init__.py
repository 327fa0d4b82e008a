"""Web pages: encoding, styles, tables and formulas, to Markdown."""
