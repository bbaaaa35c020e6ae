"""The data-free study: settings, artefacts, rows, and what its notebook calls."""
