"""An HTTP server over one loaded model (`l4 serve`)."""
