"""Programs before they run: found in a response, parsed, and checked for what cannot work."""
