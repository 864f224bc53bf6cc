"""Job lifecycle, from submission to deletion."""
