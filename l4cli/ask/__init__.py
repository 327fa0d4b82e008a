"""Questions about whole documents."""
