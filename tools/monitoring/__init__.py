"""What is made from deploy/monitoring/rules.yaml and `panels`: the PrometheusRule and the Grafana dashboard."""
