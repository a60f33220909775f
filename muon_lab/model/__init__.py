"""The model that the course trains: attention in three kinds, and a byte-level GPT around it.

Begin with ``gpt.py``, which reads from top to bottom as the model computes. ``attention.py`` holds
MHA, GQA and MLA; each knows its largest logits and how to clip its own weights.
"""
