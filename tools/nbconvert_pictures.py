"""Settings of `jupyter nbconvert` that show an explorer's picture instead of its widget.

A widget in a page needs a script from the network. For a page with every picture in it:
`jupyter nbconvert --execute --to html --config tools/nbconvert_pictures.py NOTEBOOK`.
"""

c = get_config()  # noqa: F821 - nbconvert defines it
c.NbConvertBase.display_data_priority = [
    "text/html",
    "text/markdown",
    "image/svg+xml",
    "text/latex",
    "image/png",
    "image/jpeg",
    "text/plain",
]
