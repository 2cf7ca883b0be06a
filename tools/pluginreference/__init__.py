"""Writes the verbs of docs/kubectl-plugin.md from the help of the plugin."""
