"""What is seen of the service from outside: traces, and what is counted for Prometheus."""
