"""How fast the study's steps are, in pairs on one machine: against the papers' loops and the hardware's limit."""
