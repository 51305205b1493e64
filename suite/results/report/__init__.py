"""The report: figures and the static HTML page that shows a result."""
