"""Can knowledge distillation clean a backdoored encoder, and when does distillation itself become the danger?

The folders tell the study in order: data and vision -> training -> evaluation -> attacks and defences ->
distillation -> plots -> study. An import only ever goes towards the front of that list.
"""

__version__ = "0.1.0"
