"""The model that the course trains: a byte-level GPT with one of three kinds of attention.

Open ``gpt.py`` first: it follows the computation from bytes to loss. ``attention.py`` holds MHA,
GQA and MLA; each records its largest logits and clips its own weights.
"""
