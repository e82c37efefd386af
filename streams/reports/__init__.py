"""What reports share: charts and plots as SVG, how numbers are written, writing files without overwriting any."""
