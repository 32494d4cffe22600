"""The stages in order: the one list of them, with the line that help says of each.

Help loads no stage; `pipeline.registry` loads all.
"""

SUMMARIES: dict[str, str] = {
    "index": "Find the images, check that each decodes, and give them ids and sets.",
    "extract": "Run the images through the network and store the activations of the tapped layers.",
    "factorize": "Factorize the activations of each image set, for every k and seed.",
    "heatmaps": "Bring the coefficients to image space and find where masks begin.",
    "refine": "Align the heat maps with the edges of their images (DFF-CRF).",
    "evaluate": "Compare the maps with the ground truth, where there is any.",
    "explain": "Say what the concepts mean to the network's own classes, where it has some.",
    "report": "Write the report, a page that opens from disk.",
}
