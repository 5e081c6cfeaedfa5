"""REPORT: from tables and query pictures to one HTML file and figures."""
