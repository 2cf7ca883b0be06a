"""Generates the PrometheusRule from deploy/monitoring/rules.yaml, and the Grafana dashboard from panels.py."""
