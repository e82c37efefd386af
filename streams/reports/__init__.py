"""What reports share: charts and plots as SVG, how numbers are written, writing files without overwriting any.

Public: `Plot`, `render` (plots.py), `Point` (charts.py), `date`, `number` (formats.py), `write_report`, `write_new`
(output_files.py). It does not know what a report is about.
"""
