"""What all explorers share: begin with ``explorer.py``, and ``explorer.js`` for the browser."""
