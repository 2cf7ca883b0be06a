"""Where keys come from: kopf for our own kinds, list-watches for the children, the sweep."""
