"""The bench's rows for the data-free study: the public loops of OOD, ZSKT and CMI against the library's."""
